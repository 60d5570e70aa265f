// The module that page authors load: defines `<millrace-player>`.

import { MillracePlayer } from "./element.js";

export { MillracePlayer };
export type {
  FaultKind,
  PlayerEventDetails,
  PlayerFault,
  PlayerLayer,
  PlayerState,
  PlayerStats,
  Protocol,
  ProtocolChoice,
} from "./types.js";

if (typeof customElements !== "undefined" && !customElements.get("millrace-player")) {
  customElements.define("millrace-player", MillracePlayer);
}
