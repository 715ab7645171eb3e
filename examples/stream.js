// A consumer of the master's streams in plain JavaScript: browsers, Deno, Bun, Node 22 (Node 20: --experimental-websocket).
//
// The login signs with crypto.subtle, which browsers offer to secure pages alone: https, or http on localhost. Whoever can read a
// page can read the key in it: give pages a consumer key of their own, and only people whom you would give the key itself.
//
//   const end = new AbortController();
//   for await (const message of stream("ws://127.0.0.1:8766", key, ["trades:*:BTC/USDT"], { signal: end.signal })) ...
//
// The messages are those of docs/streams.md. After a broken connection streams go on from their cursor: nothing is lost or doubled.

const LONGEST_PAUSE_MS = 30_000;
const LOGIN_WITHIN_MS = 10_000;

export class LoginError extends Error {}
export class SubscriptionError extends Error {}

export async function* stream(url, key, topics, { cursor = null, conflateMs = null, signal = null } = {}) {
  let failures = 0;
  while (!signal?.aborted) {
    const inbox = new Inbox(url, signal);
    try {
      await logIn(inbox, key);
      inbox.send({ op: "subscribe", id: 1, topics, cursor, conflate_ms: conflateMs });
      for (let message = await inbox.next(); message; message = await inbox.next()) {
        if (message.op === "error") throw new SubscriptionError(`${message.code}: ${message.detail} (right would be: ${message.change})`);
        if (message.op === "refused") throw new LoginError(`${message.reason}: the key is no longer live`);
        if (message.op === "bye") break;
        failures = 0;
        if (message.op === "events" || (message.op === "subscribed" && message.streams.length)) cursor = message.cursor;
        if (message.op === "gap") cursor = message.until;
        yield message;
      }
    } finally {
      inbox.close();
    }
    failures += 1;
    await pause(Math.random() * Math.min(LONGEST_PAUSE_MS, 200 * 2 ** failures), signal);
  }
}

// docs/wire.md, 4: both sides show that they have the key, and neither sends it.
async function logIn(inbox, key) {
  const [, kid = "", secret = key] = key.match(/^(k[0-9a-f]{8})\.([0-9a-f]{64})$/) ?? [];
  const nonce = hex(crypto.getRandomValues(new Uint8Array(32)));
  const about = { role: "consumer", id: "javascript", nonce };
  if (!(await inbox.opened)) return;
  inbox.sendText(new URLSearchParams({ v: "1", ...about, ...(kid && { kid }) }).toString());
  const challenge = await inbox.next(LOGIN_WITHIN_MS);
  if (challenge?.op === "refused") throw new LoginError(challenge.reason);
  if (!challenge) return;
  const proof = (by) => sign(secret, ["cm.v1", by, about.role, about.id, nonce, challenge.nonce, ...(kid ? [kid] : [])].join("\n"));
  inbox.send({ op: "login", proof: await proof("client") });
  const answer = await inbox.next(LOGIN_WITHIN_MS);
  if (!answer) return;
  if (answer.op !== "accepted") throw new LoginError(`${answer.reason}; the key has to be one of role consumer or admin, and live`);
  if (answer.proof !== (await proof("server"))) throw new LoginError(`${inbox.url} does not know the key: it is not the master`);
}

async function sign(secret, text) {
  if (!crypto.subtle) throw new LoginError("crypto.subtle is missing: open the page over https, or from localhost");
  const bytes = (each) => new TextEncoder().encode(each);
  const key = await crypto.subtle.importKey("raw", bytes(secret), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return hex(new Uint8Array(await crypto.subtle.sign("HMAC", key, bytes(text))));
}

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

const pause = (milliseconds, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

// A WebSocket whose messages are asked for one after the other. A browser cannot be told to read more slowly: when too many wait,
// the connection is given up, and the cursor leads on from what was taken.
class Inbox {
  static MOST_WAITING = 10_000;

  constructor(url, signal) {
    this.url = url;
    this.waiting = [];
    this.wake = () => {};
    this.isOver = false;
    this.socket = new WebSocket(url);
    this.opened = new Promise((resolve) => {
      this.socket.onopen = () => resolve(true);
      this.socket.onclose = this.socket.onerror = () => (resolve(false), this.end());
    });
    this.socket.onmessage = ({ data }) => {
      this.waiting.push(data);
      this.wake();
      if (this.waiting.length > Inbox.MOST_WAITING) this.close();
    };
    signal?.addEventListener("abort", () => this.close(), { once: true });
  }

  send(message) {
    this.sendText(JSON.stringify(message));
  }

  sendText(text) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(text);
  }

  // The next message; undefined at the end.
  async next(within = null) {
    const timer = within && setTimeout(() => this.close(), within);
    while (!this.waiting.length && !this.isOver) await new Promise((resolve) => (this.wake = resolve));
    clearTimeout(timer);
    return this.waiting.length ? JSON.parse(this.waiting.shift()) : undefined;
  }

  end() {
    this.isOver = true;
    this.wake();
  }

  close() {
    this.socket.close();
    this.end();
  }
}
