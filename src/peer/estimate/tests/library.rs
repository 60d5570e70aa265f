//! What the controller of `rtc-interceptor` makes of the same links.
