// Time that is driven by hand.

/** What `Timers` of the player is, and passes only by `run`. */
export class Time {
  ms = 1_000_000;
  #calls = [];
  now = () => this.ms;
  chance = () => 0;
  after = (ms, call) => {
    const entry = { at: this.ms + ms, call };
    this.#calls.push(entry);
    return () => (this.#calls = this.#calls.filter((other) => other !== entry));
  };
  run(ms) {
    const end = this.ms + ms;
    for (;;) {
      const due = this.#calls.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#calls = this.#calls.filter((other) => other !== due);
      this.ms = Math.max(this.ms, due.at);
      due.call();
    }
    this.ms = end;
  }
}
