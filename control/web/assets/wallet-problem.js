// What can go wrong between page and wallet, in words for the person in front of it. Pure.

const WORDS_MAX = 300;
// Controls, and marks that turn the direction of what follows.
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+/g;
// Codes of EIP-1193 and JSON-RPC, which the wallets of Solana took over.
const REFUSED = 4001;
const UNAUTHORIZED = 4100;
const NO_NETWORK = new Set([4900, 4901]);
const ALREADY_ASKING = -32002;

// `kind` is for programs: refused, unauthorized, busy, offline, silent, network, account, cannot, expired, wallet or server.
export class WalletProblem extends Error {
  constructor(kind, words) {
    super(words);
    this.kind = kind;
  }
}

// Returns what a wallet threw as a problem in words. Wallets agree on no type of error, so code and text are both looked at.
export function problemOf(error, walletName) {
  if (error instanceof WalletProblem) return error;
  const code = codeOf(error);
  const said = textOf(error);
  if (code === REFUSED || /\b(reject|refus|denied|declin|cancel)/i.test(said)) {
    return new WalletProblem("refused", `You refused in ${walletName}. Nothing was sent.`);
  }
  if (code === UNAUTHORIZED || /not authorized|unauthorized/i.test(said)) {
    return new WalletProblem("unauthorized", `${walletName} has not allowed this page to use this address. Connect it again and allow the address.`);
  }
  if (code === ALREADY_ASKING) {
    return new WalletProblem("busy", `${walletName} is asking you something already. Open it and answer there first.`);
  }
  if (NO_NETWORK.has(code)) return new WalletProblem("offline", `${walletName} has no connection to its network. Try again in a moment.`);
  if (/block ?hash (not found|expired)|block height exceeded/i.test(said)) {
    return new WalletProblem("expired", "It took too long: the transaction was good for about a minute. Nothing was paid. Try again.");
  }
  if (/insufficient (lamports|funds for (fee|rent))|no record of a prior credit/i.test(said)) {
    return new WalletProblem("fee", "The wallet has no SOL for the network's fee. Send it a little SOL, a cent's worth is plenty. Nothing was paid.");
  }
  return new WalletProblem("wallet", said ? `${walletName} says: ${said}` : `${walletName} failed without saying why. Look there whether anything was sent.`);
}

function codeOf(error) {
  for (const one of [error, error?.cause, error?.error]) {
    if (typeof one?.code === "number") return one.code;
  }
  return null;
}

function textOf(error) {
  const said = typeof error === "string" ? error : error?.message ?? error?.cause?.message ?? "";
  return plainText(said, WORDS_MAX);
}

// Returns what a wallet says of itself as one line of text that changes nothing around it.
export function plainText(text, charactersMax) {
  return [...String(text).replace(UNPRINTABLE, " ").replace(/\s+/g, " ").trim()].slice(0, charactersMax).join("");
}
