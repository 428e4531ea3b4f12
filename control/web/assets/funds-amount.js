// Amounts of USDC as people type them, read exactly: from text to whole microunits, with no number in between that could lose a digit. Pure.

const DECIMALS = 6;
const PER_USDC = 10n ** BigInt(DECIMALS);
const AMOUNT_MAX = 2n ** 53n - 1n;

// What was typed is no amount that can be paid; the message says why, for the one who typed it.
export class AmountProblem extends Error {}

// Returns the microunits of `text`, such as "5" or "0.25", as a BigInt.
export function readAmount(text) {
  const typed = text.trim().replace(/\s*(USDC|\$)\s*/i, "");
  if (typed === "") throw new AmountProblem("Say how much: an amount of USDC such as 5 or 0.25.");
  if (typed.includes(",")) throw new AmountProblem("Write the amount with a point and without commas, such as 1000.50.");
  const found = /^(\d*)(?:\.(\d*))?$/.exec(typed);
  if (!found || (found[1] === "" && !found[2])) throw new AmountProblem("This is not an amount. Write it like 5 or 0.25.");
  const fraction = (found[2] ?? "").replace(/0+$/, "");
  if (fraction.length > DECIMALS) throw new AmountProblem("USDC has six decimals at most.");
  if (found[1].length > 20) throw new AmountProblem("This is more than one account can hold.");
  const amount = BigInt(found[1] || "0") * PER_USDC + BigInt(fraction.padEnd(DECIMALS, "0") || "0");
  if (amount === 0n) throw new AmountProblem("The amount must be more than 0 USDC.");
  if (amount > AMOUNT_MAX) throw new AmountProblem("This is more than one account can hold.");
  return amount;
}

// Writes microunits as the server reads them: "5", "0.25", nothing idle.
export function writeAmount(amount) {
  const fraction = String(amount % PER_USDC).padStart(DECIMALS, "0").replace(/0+$/, "");
  return fraction ? `${amount / PER_USDC}.${fraction}` : String(amount / PER_USDC);
}
