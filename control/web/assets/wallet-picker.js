// The wallets of this browser on a page: a button for each, then the address in use and the one thing that is asked of it.
//
// Whatever a wallet says of itself (name, icon, errors) is shown as text, never as markup.

import { watchWallets } from "./wallet-registry.js";
import { PAYING, SIGNING, WalletSession, obstacle } from "./wallet-session.js";
import { plainText, problemOf } from "./wallet-problem.js";

const REMEMBERED = "level5.wallet";
const ICON = /^data:image\/(svg\+xml|webp|png|gif);base64,[A-Za-z0-9+/=]+$/;
const NAME_MAX = 60;
const TONES = { refused: "attention", busy: "attention", account: "attention", network: "attention", expired: "attention" };

export class WalletPicker {
  #place;
  #feature;
  #act;
  #connected;
  #session = null;
  #busy = false;
  #greeted = false;

  // `act` is called with the session when the person presses the button, `connected` with it whenever its address changes, null when it is gone.
  constructor(place, { act, connected = () => {} }) {
    this.#place = place;
    this.#feature = place.dataset.purpose === "sign" ? SIGNING : PAYING;
    this.#act = act;
    this.#connected = connected;
    this.#part("act").addEventListener("click", () => this.#guarded(() => this.#act(this.#session)));
    this.#part("disconnect").addEventListener("click", () => this.#leave());
    this.#part("address").addEventListener("change", (event) => this.#chosen(event.target.value));
    watchWallets((wallets) => this.#list(wallets));
  }

  // Names the button: "Pay 10 USDC". An empty name means that there is nothing to press it for.
  name(label) {
    this.#part("act").dataset.label = label;
    this.#draw();
  }

  say(words, tone = "neutral") {
    const place = this.#part("status");
    place.textContent = words;
    place.dataset.tone = tone;
  }

  #part(name) {
    return this.#place.querySelector(`[data-${name}]`);
  }

  #list(wallets) {
    const usable = wallets.filter((wallet) => wallet.chains.some((chain) => String(chain).startsWith("solana:")));
    this.#part("none").hidden = usable.length > 0;
    this.#part("list").replaceChildren(...usable.map((wallet) => this.#entry(wallet)));
    this.#greet(usable);
  }

  #entry(wallet) {
    const entry = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "plain wallet-button";
    const icon = iconOf(wallet);
    if (icon) button.append(icon);
    const name = document.createElement("span");
    name.textContent = nameOf(wallet);
    button.append(name);
    entry.append(button);
    const why = obstacle(wallet, this.#feature, this.#place.dataset.chain);
    if (why) {
      button.disabled = true;
      const note = document.createElement("span");
      note.className = "note";
      note.textContent = why;
      entry.append(note);
    }
    button.addEventListener("click", () => this.#guarded(() => this.#connect(wallet)));
    return entry;
  }

  // A wallet that this person used here before is asked silently; others wait to be chosen.
  #greet(wallets) {
    const known = wallets.find((wallet) => nameOf(wallet) === remembered());
    if (this.#greeted || !known || obstacle(known, this.#feature, this.#place.dataset.chain)) return;
    this.#greeted = true;
    const session = this.#open(known);
    session.connect({ silent: true }).then(
      () => session.account && !this.#session && this.#use(session),
      () => {},
    );
  }

  #open(wallet) {
    const session = new WalletSession(wallet, nameOf(wallet), this.#place.dataset.chain, () => {
      if (session !== this.#session) return;
      if (session.account) this.#use(session);
      else this.#leave(`${session.name} has disconnected.`);
    });
    return session;
  }

  async #connect(wallet) {
    const session = this.#open(wallet);
    this.say(`Waiting for you to allow this page in ${session.name} …`);
    await session.connect();
    remember(session.name);
    this.say("");
    this.#use(session);
  }

  #use(session) {
    this.#session = session;
    const select = this.#part("address");
    select.replaceChildren(...session.accounts.map((account) => new Option(labelOf(account), account.address)));
    select.value = session.account.address;
    this.#part("name").textContent = session.name;
    this.#draw();
    this.#connected(session);
  }

  #chosen(address) {
    this.#session.choose(address);
    this.say("");
    this.#connected(this.#session);
  }

  async #leave(words = "") {
    const session = this.#session;
    this.#session = null;
    remember("");
    this.say(words, words ? "attention" : "neutral");
    this.#draw();
    this.#connected(null);
    await session?.disconnect();
  }

  // One thing at a time, and what goes wrong is said in words.
  async #guarded(work) {
    if (this.#busy) return;
    this.#busy = true;
    this.#draw();
    try {
      await work();
    } catch (error) {
      const problem = problemOf(error, this.#session?.name ?? "The wallet");
      this.say(problem.message, TONES[problem.kind] ?? "bad");
    } finally {
      this.#busy = false;
      this.#draw();
    }
  }

  #draw() {
    const act = this.#part("act");
    this.#part("connected").hidden = this.#session === null;
    this.#part("list").hidden = this.#session !== null;
    act.textContent = act.dataset.label || "Pay";
    act.disabled = this.#busy || !act.dataset.label;
    act.setAttribute("aria-busy", String(this.#busy));
  }
}

function nameOf(wallet) {
  return plainText(wallet.name, NAME_MAX) || "A wallet without a name";
}

function labelOf(account) {
  const short = `${account.address.slice(0, 6)}…${account.address.slice(-6)}`;
  return account.label ? `${plainText(account.label, NAME_MAX)} (${short})` : short;
}

function iconOf(wallet) {
  if (!ICON.test(String(wallet.icon))) return null;
  const image = document.createElement("img");
  image.src = wallet.icon;
  image.alt = "";
  image.width = image.height = 24;
  return image;
}

function remembered() {
  try {
    return localStorage.getItem(REMEMBERED) ?? "";
  } catch {
    return "";
  }
}

function remember(name) {
  try {
    if (name) localStorage.setItem(REMEMBERED, name);
    else localStorage.removeItem(REMEMBERED);
  } catch {
    // Then it is chosen again next time.
  }
}
