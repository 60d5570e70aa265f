// The looks of the player: one sheet, in its shadow root. What page authors may change are the
// custom properties `--millrace-..` and the parts.

export const STYLE = `
:host {
  --accent: var(--millrace-accent, #4cc9f0);
  --on-accent: var(--millrace-on-accent, #04202c);
  --ground: var(--millrace-background, #000);
  --text: var(--millrace-text, #eaf1f8);
  --dim: var(--millrace-dim, #a9b8c8);
  --live: var(--millrace-live, #ff4d5e);
  display: block;
  position: relative;
  overflow: hidden;
  aspect-ratio: 16 / 9;
  border-radius: var(--millrace-radius, 0);
  background: var(--ground);
  color: var(--text);
  color-scheme: dark;
  font: 16px/1.5 var(--millrace-font, system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
    "Liberation Sans", sans-serif);
  text-align: start;
  -webkit-text-size-adjust: 100%;
}
:host(:fullscreen) { width: 100%; height: 100%; aspect-ratio: auto; border-radius: 0; }
:host([hidden]), [hidden] { display: none !important; }
*, *::before, *::after { box-sizing: border-box; }
h2, p { margin: 0; }

.stage {
  position: absolute;
  inset: 0;
  display: grid;
  overflow: hidden;
  background: var(--ground);
  container: stage / size;
  outline: none;
}
.stage > * { grid-area: 1 / 1; min-width: 0; min-height: 0; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.stage:focus-visible::after {
  content: "";
  grid-area: 1 / 1;
  z-index: 5;
  border: 2px solid var(--accent);
  border-radius: inherit;
  pointer-events: none;
}

video, .poster {
  width: 100%;
  height: 100%;
  object-fit: var(--millrace-fit, contain);
  display: block;
  background: var(--ground);
}
/* What gets ready behind the picture must be drawn, or browsers stop decoding it. */
video { z-index: 0; }
video.front { z-index: 1; }
.poster { z-index: 1; }

.sound-only {
  z-index: 1;
  display: grid;
  place-content: center;
  justify-items: center;
  gap: 18px;
  background: radial-gradient(circle at 50% 40%, #14263a, #05080c 70%);
  color: var(--dim);
}
.level { display: flex; align-items: center; gap: 8px; height: 120px; --level: 0; }
.level i {
  width: 10px;
  height: calc(14px + 100px * var(--level) * var(--share));
  border-radius: 5px;
  background: var(--accent);
  transition: height 0.1s;
}
/* Where nobody tells how loud it is, the bars only show that it plays. */
.level[data-loudness="unknown"] { animation: breathe 2.4s ease-in-out infinite alternate; }
@keyframes breathe { from { opacity: 0.35; } to { opacity: 1; } }
.level i:nth-child(1), .level i:nth-child(7) { --share: 0.35; }
.level i:nth-child(2), .level i:nth-child(6) { --share: 0.6; }
.level i:nth-child(3), .level i:nth-child(5) { --share: 0.85; }
.level i:nth-child(4) { --share: 1; }

.veil {
  z-index: 2;
  display: flex;
  flex-direction: column;
  align-items: center;
  justify-content: safe center;
  gap: 10px;
  padding: 20px;
  overflow: auto;
  background: #05080ccc;
  text-align: center;
}
.veil h2 { font-size: 1.25rem; font-weight: 600; line-height: 1.3; }
.veil h2:empty, .veil p:empty { display: none; }
.veil p {
  max-width: 46ch;
  margin: 4px auto 0;
  color: #b9c7d6;
  text-wrap: balance;
  overflow-wrap: anywhere;
}
.veil .countdown, .veil .countdown:empty {
  display: block;
  min-height: 1.5em;
  margin: 0;
  color: var(--dim);
  font-size: 0.875rem;
  font-variant-numeric: tabular-nums;
}
.spinner {
  flex: none;
  width: 34px;
  height: 34px;
  margin-bottom: 6px;
  border: 3px solid #ffffff26;
  border-top-color: var(--accent);
  border-radius: 50%;
  animation: turn 0.9s linear infinite;
}
@keyframes turn { to { rotate: 1turn; } }
form {
  width: min(100%, 420px);
  display: flex;
  flex-wrap: wrap;
  align-items: end;
  gap: 12px;
  text-align: left;
}
label { flex: 1 1 200px; min-width: 0; }
label span {
  display: block;
  margin-bottom: 6px;
  font-size: 0.8125rem;
  font-weight: 500;
  color: var(--dim);
}
input[type="password"] {
  width: 100%;
  height: 46px;
  padding: 0 14px;
  border: 1px solid #35475e;
  border-radius: 10px;
  background: #0c131c;
  color: var(--text);
  font: inherit;
}

button {
  flex: none;
  height: 46px;
  padding: 0 20px;
  border: 0;
  border-radius: 10px;
  background: transparent;
  color: inherit;
  font: inherit;
  font-weight: 600;
  cursor: pointer;
}
button.primary { background: var(--accent); color: var(--on-accent); }
button.primary:hover { filter: brightness(1.12); }
svg {
  display: block;
  width: 24px;
  height: 24px;
  fill: none;
  stroke: currentColor;
  stroke-width: 2;
  stroke-linecap: round;
  stroke-linejoin: round;
}
svg .full { fill: currentColor; }

.middle {
  z-index: 3;
  place-self: center;
  display: inline-flex;
  align-items: center;
  gap: 10px;
  height: 54px;
  padding: 0 26px 0 20px;
  border-radius: 99px;
  background: #fff;
  color: #0a0f16;
  box-shadow: 0 8px 32px #000a;
}
.middle:hover { background: #e3f6fd; }
.middle svg { width: 26px; height: 26px; }

.controls {
  z-index: 4;
  align-self: end;
  display: flex;
  align-items: center;
  gap: 4px;
  padding: 34px 10px max(8px, env(safe-area-inset-bottom));
  background: linear-gradient(#0000, #000b);
  color: #fff;
  transition: opacity 0.25s;
}
.stage[data-phase="waiting"] .controls, .stage[data-phase="stopped"] .controls,
.stage[data-phase="idle"] .controls { display: none; }
.stage.quiet:not(:has(.controls :focus-visible, .layers:not([hidden]))) .controls { opacity: 0; }
.stage.quiet { cursor: none; }
.stage.quiet:has(.layers:not([hidden])) { cursor: auto; }
.stage.quiet[data-phase="waiting"], .stage.quiet[data-phase="stopped"] { cursor: auto; }
.icon { width: 46px; padding: 0; display: grid; place-items: center; }
.icon:hover { background: #ffffff1f; }
.icon[aria-pressed="true"] .when-off, .icon[aria-pressed="false"] .when-on,
.icon[data-paused="true"] .when-on, .icon[data-paused="false"] .when-off { display: none; }
input[type="range"] {
  flex: 0 1 104px;
  min-width: 40px;
  height: 46px;
  margin: 0 6px 0 0;
  accent-color: #fff;
  cursor: pointer;
}
.spring { flex: 1; }

.standing {
  display: inline-flex;
  align-items: center;
  gap: 8px;
  padding: 0 10px;
  font-size: 0.875rem;
  font-weight: 600;
  white-space: nowrap;
  font-variant-numeric: tabular-nums;
}
.standing::before {
  content: "";
  flex: none;
  width: 8px;
  height: 8px;
  border-radius: 50%;
  background: var(--dim);
}
.standing[data-live]::before { background: var(--live); }
.standing span:empty { display: none; }
.standing .protocol { color: #ffffffb8; font-weight: 500; }
.standing .protocol:not(:empty)::before { content: "· "; }

.layer {
  min-width: 46px;
  padding: 0 10px;
  font-size: 0.875rem;
  white-space: nowrap;
  font-variant-numeric: tabular-nums;
}
.layer:hover, .layer[aria-expanded="true"] { background: #ffffff1f; }
.layers {
  z-index: 5;
  place-self: end;
  display: flex;
  flex-direction: column;
  min-width: min(200px, calc(100cqw - 16px));
  max-width: calc(100cqw - 16px);
  max-height: calc(100cqh - 72px);
  margin: 8px 8px calc(60px + max(0px, env(safe-area-inset-bottom)));
  padding: 6px;
  overflow: auto;
  overscroll-behavior: contain;
  border: 1px solid #ffffff24;
  border-radius: 12px;
  /* Solid, or Firefox takes clicks on it for its own button on the picture. */
  background: #10161e;
  color: #fff;
  box-shadow: 0 8px 32px #000a;
}
.layers button {
  display: flex;
  align-items: center;
  gap: 8px;
  height: auto;
  min-height: 40px;
  padding: 6px 12px 6px 8px;
  border-radius: 8px;
  font-size: 0.875rem;
  font-weight: 500;
  text-align: start;
  font-variant-numeric: tabular-nums;
}
.layers button:hover { background: #ffffff1f; }
.layers button:focus-visible { outline-offset: -2px; }
.layers svg { flex: none; width: 20px; height: 20px; visibility: hidden; }
.layers [aria-checked="true"] svg { visibility: visible; }
.layers [aria-disabled="true"] { color: var(--dim); cursor: default; }

@container stage (max-width: 520px) {
  input[type="range"] { display: none; }
  .controls { gap: 0; padding-inline: 4px; }
  .standing { padding: 0 6px; font-size: 0.8125rem; }
  .layer { padding: 0 6px; }
  .veil { padding: 12px; }
}
@container stage (max-width: 330px) { .standing .protocol, .pip { display: none; } }
@container stage (max-height: 260px) {
  .veil { gap: 4px; }
  .veil h2 { font-size: 1.0625rem; }
  .veil p { margin-top: 0; font-size: 0.9375rem; line-height: 1.4; }
  .spinner { width: 24px; height: 24px; margin-bottom: 2px; }
  .veil .countdown { min-height: 0; }
  /* Over the controls: there is no room above them. */
  .layers { margin-bottom: 8px; max-height: calc(100cqh - 16px); padding: 4px; }
  .layers button { min-height: 32px; padding-block: 2px; }
}
@media (hover: none) and (pointer: coarse) { input[type="range"] { display: none; } }
@media (prefers-reduced-motion: reduce) {
  *, *::before, *::after { transition: none !important; }
  .spinner { animation-duration: 3s; }
}
`;
