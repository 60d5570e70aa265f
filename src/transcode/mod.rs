//! What viewers lack is made from what comes in, by a process of its own.
