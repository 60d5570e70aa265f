// Why a session did not come about or ended, in words for the person in front of the page.

/** What the page can do about a fault. */
export type FaultKind =
  /** The server wants another token: ask for one. */
  | "token"
  /** The server will not serve this request, however often it is made: say so and stop. */
  | "refused"
  /** Nobody publishes the stream yet: wait. */
  | "not-live"
  /** What is published cannot be played here; its publisher may mend that: look again slowly. */
  | "unplayable"
  /** Full, stopping, or held by somebody else: try again later. */
  | "busy"
  /** The server does not answer: try again. */
  | "unreachable"
  /** HTTP works, media does not get through: try again, and name the port. */
  | "no-path"
  /** What was connected is no longer: connect again. */
  | "lost"
  /** The server ended the session in good order: connect again. */
  | "ended";

/** How long until an unplayable stream is asked for again: encoders are not mended in seconds. */
const LOOK_AGAIN_MS = 6_000;

/** A failed attempt. */
export class Fault extends Error {
  constructor(
    readonly kind: FaultKind,
    message: string,
    /** When the server wants to be asked again. */
    readonly retryAfterMs?: number,
  ) {
    super(message);
    this.name = "Fault";
  }

  /** Whether trying again can help without the user's doing. */
  get isPassing(): boolean {
    return this.kind !== "token" && this.kind !== "refused";
  }
}

/** Makes a fault of whatever was thrown. */
export function asFault(thrown: unknown): Fault {
  if (thrown instanceof Fault) return thrown;
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return new Fault("refused", `The browser cannot do this: ${text}`);
}

/** Reads a refusal: a problem body (RFC 9457) where there is one, else the status. */
export async function refusal(response: Response, role: "publish" | "watch"): Promise<Fault> {
  const problem = await problemOf(response);
  const words = problem ?? `The server answered ${response.status} ${response.statusText}.`;
  const retryAfterMs = retryAfter(response.headers.get("Retry-After"));
  switch (response.status) {
    case 401:
    case 403:
      return new Fault("token", words);
    case 406:
      if (role === "publish") return new Fault("refused", words);
      return new Fault("unplayable", words, retryAfterMs ?? LOOK_AGAIN_MS);
    case 404:
      // Servers that know no stream before it is live say so; ours names what is off or bad.
      if (role === "publish" || problem === undefined) return new Fault("refused", words);
      return new Fault(retryAfterMs === undefined ? "refused" : "not-live", words, retryAfterMs);
    case 409:
      return new Fault(role === "watch" ? "not-live" : "busy", words, retryAfterMs);
    case 429:
    case 503:
      return new Fault("busy", words, retryAfterMs);
    default:
      return new Fault(response.status >= 500 ? "unreachable" : "refused", words, retryAfterMs);
  }
}

async function problemOf(response: Response): Promise<string | undefined> {
  if (!/json/.test(response.headers.get("Content-Type") ?? "")) return undefined;
  try {
    const body: unknown = await response.json();
    if (typeof body !== "object" || body === null) return undefined;
    const { detail, title } = body as { detail?: unknown; title?: unknown };
    const text = typeof detail === "string" && detail !== "" ? detail : title;
    return typeof text === "string" && text !== "" ? sentence(text) : undefined;
  } catch {
    return undefined;
  }
}

/** Begins with a capital letter and ends with a full stop. */
function sentence(text: string): string {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

/** Reads `Retry-After` (RFC 9110 §10.2.3): seconds, or a date. */
export function retryAfter(value: string | null): number | undefined {
  if (value === null) return undefined;
  const seconds = Number(value);
  const wait = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(wait) ? Math.min(Math.max(wait, 250), 30_000) : undefined;
}
