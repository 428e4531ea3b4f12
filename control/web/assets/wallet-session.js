// One wallet in use: connecting, the address chosen in it, and the two things that are asked of it, a payment and a signature.

import { envelopeOf, toBase58 } from "./wallet-bytes.js";
import { WalletProblem, problemOf } from "./wallet-problem.js";

const CONNECT = "standard:connect";
const DISCONNECT = "standard:disconnect";
const EVENTS = "standard:events";
const SEND = "solana:signAndSendTransaction";
const SIGN = "solana:signMessage";
// How long a person may take over a wallet's window; some wallets never answer when it is closed.
const ANSWER_MILLISECONDS_MAX = 180_000;

export const PAYING = SEND;
export const SIGNING = SIGN;

// Says why `wallet` cannot do `feature` on `chain`, in words; an empty text where it can.
export function obstacle(wallet, feature, chain) {
  if (!wallet.chains.some((one) => one.startsWith("solana:"))) return "is no wallet of Solana";
  if (!wallet.features[CONNECT] || !wallet.features[feature]) return feature === SEND ? "cannot pay from a page" : "cannot sign a text from a page";
  if (!wallet.chains.includes(chain)) return `does not know the network ${chain.replace("solana:", "")}`;
  return "";
}

export class WalletSession {
  #wallet;
  #chain;
  #changed;
  #stopListening = () => {};

  // `name` is the wallet's as it is shown; `changed` is called whenever its addresses change by the wallet's own doing.
  constructor(wallet, name, chain, changed) {
    this.#wallet = wallet;
    this.name = name;
    this.#chain = chain;
    this.#changed = changed;
    this.accounts = [];
    this.account = null;
  }

  // Asks the wallet for its addresses. `silent` asks only a wallet that has allowed this page before, and opens no window.
  async connect({ silent = false } = {}) {
    const answer = await this.#ask(() => this.#wallet.features[CONNECT].connect(silent ? { silent: true } : undefined));
    this.#take(answer?.accounts ?? this.#wallet.accounts);
    if (!this.account && !silent) throw new WalletProblem("account", `${this.name} gave no address of Solana. Choose one there and connect again.`);
    this.#listen();
  }

  // Lets go of the wallet. It may stay allowed to know this page; that is its user's affair.
  async disconnect() {
    this.#stopListening();
    this.#take([]);
    try {
      await this.#wallet.features[DISCONNECT]?.disconnect();
    } catch {
      // We do not use it any more, whatever it makes of that.
    }
  }

  // Chooses one of the addresses that the wallet has given.
  choose(address) {
    this.account = this.accounts.find((account) => account.address === address) ?? this.account;
  }

  // Has the wallet sign and send a transaction; returns the signature in base58.
  async pay(transaction) {
    this.require(SEND);
    const input = { account: this.account, chain: this.#chain, transaction, options: { preflightCommitment: "confirmed" } };
    const [output] = await this.#ask(() => this.#wallet.features[SEND].signAndSendTransaction(input));
    return toBase58(output.signature);
  }

  // Has the wallet sign a text; returns the signature in base58 and the envelope that the wallet put around the text.
  async sign(text) {
    this.require(SIGN);
    const message = new TextEncoder().encode(text);
    const [output] = await this.#ask(() => this.#wallet.features[SIGN].signMessage({ account: this.account, message }));
    const envelope = envelopeOf(text, output.signedMessage ?? message);
    if (envelope === null) throw new WalletProblem("cannot", `${this.name} signed another text than it was given, which proves nothing here.`);
    return { signature: toBase58(output.signature), envelope };
  }

  // Throws where the address in use cannot do `feature`, before anybody is bothered.
  require(feature) {
    if (!this.account) throw new WalletProblem("account", `${this.name} is not connected any more. Connect it again.`);
    const { chains, features } = this.account;
    if (feature === SEND && chains && !chains.includes(this.#chain)) {
      const network = this.#chain.replace("solana:", "");
      throw new WalletProblem("network", `This address is not on the network ${network}. Switch ${this.name} to ${network} and try again.`);
    }
    if (features && !features.includes(feature)) {
      const what = feature === SEND ? "pay" : "sign a text";
      throw new WalletProblem("cannot", `${this.name} cannot ${what} with this address; it may be one that you only watch. Choose another address.`);
    }
  }

  #listen() {
    this.#stopListening();
    const stop = this.#wallet.features[EVENTS]?.on("change", (properties) => {
      if (!properties.accounts) return;
      this.#take(properties.accounts);
      this.#changed();
    });
    this.#stopListening = stop ?? (() => {});
  }

  #take(accounts) {
    const before = this.account?.address;
    this.accounts = accounts.filter((account) => !account.chains || account.chains.some((chain) => chain.startsWith("solana:")));
    this.account = this.accounts.find((account) => account.address === before) ?? this.accounts[0] ?? null;
  }

  async #ask(question) {
    let timer;
    const silence = new Promise((_, fail) => {
      const words = `${this.name} has not answered for three minutes. Look there whether it sent anything before you try again.`;
      timer = setTimeout(() => fail(new WalletProblem("silent", words)), ANSWER_MILLISECONDS_MAX);
    });
    try {
      return await Promise.race([question(), silence]);
    } catch (error) {
      throw problemOf(error, this.name);
    } finally {
      clearTimeout(timer);
    }
  }
}
