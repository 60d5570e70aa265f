// What a key does in the player.

export type KeyAction = "play" | "mute" | "fullscreen" | "pip" | "louder" | "softer";

const ACTIONS: Record<string, KeyAction> = {
  k: "play",
  " ": "play",
  m: "mute",
  f: "fullscreen",
  p: "pip",
  ArrowUp: "louder",
  ArrowDown: "softer",
};

/**
 * The action, or nothing where the key is for somebody else. `scope` is the attribute `hotkeys`:
 * keys count while the player has the focus, with `page` wherever on the page, with `off` never.
 */
export function keyAction(
  event: KeyboardEvent,
  scope: string,
  isOurs: boolean,
): KeyAction | undefined {
  if (scope === "off" || event.ctrlKey || event.metaKey || event.altKey) return undefined;
  if (!isOurs && scope !== "page") return undefined;
  if (event.defaultPrevented) return undefined;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = ACTIONS[key];
  const [target] = event.composedPath();
  if (action === undefined || !(target instanceof HTMLElement)) return action;
  if (isForTyping(target)) return undefined;
  // These keys already mean something where the focus is.
  const isArrow = key.startsWith("Arrow");
  if (isArrow && (target instanceof HTMLInputElement || !isOurs)) return undefined;
  if (key === " " && target.closest("button, a, summary, input, [role=button]")) return undefined;
  return action;
}

function isForTyping(target: HTMLElement): boolean {
  if (target instanceof HTMLInputElement) return target.type !== "range";
  return target.isContentEditable || target.matches("textarea, select");
}
