// Questions to the server; who asks waits while it is gone, busy or wants a key.

const KEY = "calque.key";
const RETRY = { first: 500, longest: 5000 }; // milliseconds between two tries to reach the server
const GONE = [502, 504]; // of a proxy that does not reach the server

/** What the server refuses, in its own words. */
export class Refusal extends Error {}

class Gone extends Error {}
class Busy extends Error {}
class NoKey extends Error {}

/** Questions to the server; `notice` is told what is in the way, and "" when nothing is. */
export class Server {
  constructor({ notice, wantKey }) {
    this.notice = notice;
    this.wantKey = wantKey; // (message) => a promise of a key
    this.key = sessionStorage.getItem(KEY);
    this.returning = null;
    this.asking = null;
  }

  /** The answer to a question, sooner or later; `signal` takes it back. Throws Refusal. */
  async ask(path, message, signal) {
    for (;;) {
      try {
        const answer = await this.try(path, message, signal);
        if (!this.returning) this.notice("");
        return answer;
      } catch (error) {
        if (error instanceof Gone) await this.back();
        else if (error instanceof NoKey) await this.newKey(error.message);
        else if (error instanceof Busy) {
          this.notice("The server is busy. Trying again\u2026");
          await pause(error.after);
        } else throw error;
        signal?.throwIfAborted();
      }
    }
  }

  async try(path, message, signal) {
    const body = message && JSON.stringify({ ...message, api_key: this.key ?? undefined });
    const response = await fetch(path, {
      method: message ? "POST" : "GET",
      headers: message ? { "Content-Type": "application/json" } : {},
      body,
      signal,
    }).catch((error) => {
      throw error.name === "AbortError" ? error : new Gone();
    });
    if (response.ok) return response.json();
    if (GONE.includes(response.status)) throw new Gone();
    if (response.status === 503)
      throw Object.assign(new Busy(), { after: 1000 * (Number(response.headers.get("Retry-After")) || 1) });
    const { error } = await response.json().catch(() => ({ error: `The server answered ${response.status}.` }));
    if (response.status === 403 || /API key/.test(error)) throw new NoKey(error);
    throw new Refusal(error);
  }

  /** Resolves when the server can be reached again. */
  back() {
    this.returning ??= this.waitForIt();
    return this.returning;
  }

  async waitForIt() {
    this.notice("The server does not answer. Trying again\u2026");
    for (let wait = RETRY.first; ; wait = Math.min(2 * wait, RETRY.longest)) {
      await pause(wait);
      const response = await fetch("health").catch(() => null);
      if (response?.ok) break;
    }
    this.returning = null;
    this.notice("");
  }

  /** One dialog for all who wait. */
  newKey(message) {
    this.asking ??= this.wantKey(this.key ? message : "").then((key) => {
      this.key = key;
      sessionStorage.setItem(KEY, key);
      this.asking = null;
    });
    return this.asking;
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
