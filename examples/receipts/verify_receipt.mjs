// Verifies receipts of brivionix_billing (format brivionix-billing/receipt/1), in Node 20 or newer and in browsers.
//
// No dependencies: JSON, BigInt, and SHA-256 and Ed25519 of WebCrypto. docs/receipts.md describes every check. They have
// an order, and the first one that fails ends the verification:
//
//   size, format, hash, signature, subject, arithmetic, prices
//
// import { verifyReceipt } from "./verify_receipt.mjs";
// const result = await verifyReceipt(bytes, { publicKey: pem, rateCards, requestId: "req_1" });
// result.valid; result.failed; result.message; result.signature; result.notes; result.receipt

export const MAX_RECEIPT_BYTES = 1999;
export const SCHEMA = "brivionix-billing/receipt/1";
export const RATE_CARDS_SCHEMA = "brivionix-billing/rate-cards/1";

/** The words of the state of a signature, as the Python library writes them. */
export const VALID = "signed, signature valid for the given key";
export const UNCHECKED = "signed, key not checked";
export const UNSIGNED = "not signed";
export const INVALID = "signature not valid";

class Failure extends Error {
  constructor(check, message) {
    super(message);
    this.check = check;
  }
}

function require(condition, check, message) {
  if (!condition) throw new Failure(check, message);
}

/**
 * Verify the bytes of a receipt (Uint8Array). Options:
 *   publicKey   the issuer's key: PEM text, or 32 raw bytes; without it, the issuer is not checked
 *   rateCards   the parsed output of `brivionix-billing rate-cards`; without it, the prices are not checked
 *   requestId, account   those that the receipt must be for
 * Never throws for a bad receipt; throws for a bad key and for other rate cards.
 */
export async function verifyReceipt(bytes, { publicKey, rateCards, requestId, account } = {}) {
  const result = { valid: false, failed: null, message: "", signature: UNSIGNED, notes: [], receipt: null };
  const rawKey = publicKey === undefined ? null : readPublicKey(publicKey);
  if (rateCards !== undefined && rateCards.schema !== RATE_CARDS_SCHEMA) {
    throw new TypeError(`rateCards is not the output of: brivionix-billing rate-cards`);
  }
  try {
    const receipt = readReceipt(bytes);
    result.signature = UNCHECKED;
    const content = await checkHash(receipt);
    if (rawKey === null) {
      result.notes.push("the issuer was not checked: no public key was given");
    } else {
      result.signature = INVALID;
      await checkSignature(receipt, content, rawKey);
      result.signature = VALID;
    }
    checkSubject(receipt, requestId, account);
    checkArithmetic(receipt);
    if (rateCards === undefined) {
      result.notes.push("the prices were not checked: no rate cards were given");
    } else {
      checkPrices(receipt, rateCards);
      if (receipt.price_book !== rateCards.price_book) {
        result.notes.push("the price file has changed since; the prices of this receipt are the same");
      }
    }
    result.receipt = receipt;
    result.valid = true;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    result.failed = error.check;
    result.message = error.message;
  }
  return result;
}

// Size and format

/** Return the receipt of canonical bytes. */
function readReceipt(bytes) {
  require(bytes.length <= MAX_RECEIPT_BYTES, "size", `more than ${MAX_RECEIPT_BYTES} bytes`);
  let text, receipt;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    receipt = JSON.parse(text);
  } catch (error) {
    throw new Failure("format", `not JSON in UTF-8: ${error.message}`);
  }
  checkFormat(receipt);
  require(canonicalJson(receipt) === text, "format", "not in canonical form: use the bytes as they were issued");
  return receipt;
}

/** Return the canonical text (RFC 8785) of a value without numbers, which a receipt does not have. */
function canonicalJson(value) {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (value !== null && typeof value === "object") {
    const names = Object.keys(value).sort();
    return `{${names.map((name) => `${JSON.stringify(name)}:${canonicalJson(value[name])}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

const pattern = (expression) => (value) => typeof value === "string" && expression.test(value);
const listOf = (test, min) => (value) => Array.isArray(value) && value.length >= min && value.every(test);
const isNull = (value) => value === null;
const either = (first, second) => (value) => first(value) || second(value);

/** Half a surrogate pair is no text: its bytes would not be UTF-8. */
const isName = (value) => typeof value === "string" && value !== "" && !/\p{Surrogate}/u.test(value);
const number = (expression) => (value) => pattern(expression)(value) && value.length <= 200;
const isAmount = number(/^(0|[1-9][0-9]*)(\.[0-9]*[1-9])?$/);
const isPositiveAmount = number(/^([1-9][0-9]*(\.[0-9]*[1-9])?|0\.[0-9]*[1-9])$/);
const isSignedAmount = pattern(/^(0|-?([1-9][0-9]*(\.[0-9]*[1-9])?|0\.[0-9]*[1-9]))$/);
const isCount = number(/^(0|[1-9][0-9]*)$/);
const isPositiveCount = number(/^[1-9][0-9]*$/);
const isHash = pattern(/^sha256:[0-9a-f]{64}$/);
const isCurrency = pattern(/^[A-Z]{3}$/);
const isMeter = pattern(/^[a-z][a-z0-9_]{0,63}$/);

/** A day of the calendar from year 1 on, in UTC; six decimal places, or none if they are zeros. */
function isTime(value) {
  const found = typeof value === "string" && /^([0-9-]{10}T[0-9:]{8})(\.[0-9]{6})?Z$/.exec(value);
  if (!found || found[2] === ".000000" || value.startsWith("0000")) return false;
  const date = new Date(`${found[1]}Z`);
  return !Number.isNaN(date.getTime()) && date.toISOString() === `${found[1]}.000Z`;
}

function isTuple(...tests) {
  return (value) =>
    Array.isArray(value) && value.length === tests.length && tests.every((test, index) => test(value[index]));
}

/** An object with all required fields, and no others than these and the optional ones. */
function isObject(required, optional = {}) {
  return (value) => {
    if (value === null || typeof value !== "object" || Array.isArray(value)) return false;
    if (!Object.keys(required).every((name) => Object.hasOwn(value, name))) return false;
    return Object.keys(value).every((name) => {
      const test = Object.hasOwn(required, name) ? required[name] : Object.hasOwn(optional, name) && optional[name];
      return test !== false && test(value[name]);
    });
  };
}

const isRising = (names) => names.every((name, index) => index === 0 || names[index - 1] < name);

/** Meter, quantity, per, unit price, list price, ratio. */
const isLine = isTuple(isMeter, isPositiveAmount, isPositiveCount, isAmount, either(isNull, isAmount), either(isNull, isAmount));
const isLines = (value) => listOf(isLine, 0)(value) && isRising(value.map((line) => line[0]));
const isContext = isObject(
  { input_tokens: isCount },
  { over: isCount, from: isCount, up_to: isCount, under: isCount },
);
const isCharge = isObject(
  { model: isName, service_tier: isName, price_since: isTime, group_since: isTime, lines: isLines },
  {
    router: isName,
    region: isName,
    mode: isName,
    window: isName,
    context: isContext,
    list_currency: isCurrency,
    exchange_rate: isAmount,
    nominal_meters: (value) => listOf(isMeter, 0)(value) && isRising(value),
    minimum: isAmount,
  },
);
const isReceipt = isObject(
  {
    schema: (value) => value === SCHEMA,
    request_id: isName,
    at: isTime,
    group: isName,
    currency: isCurrency,
    nominal_per_credit: isAmount,
    charges: listOf(isCharge, 1),
    credits: isAmount,
    estimated: (value) => typeof value === "boolean",
    price_book: isHash,
    signing_key: pattern(/^[0-9a-f]{16}$/),
    hash: isHash,
    signature: pattern(/^[A-Za-z0-9+/]{85}[AQgw]==$/),
  },
  {
    account: isName,
    unaccounted: either(
      listOf(isTuple(isName, isSignedAmount), 1),
      isObject({ numbers: isPositiveCount, hash: isHash }),
    ),
  },
);

function checkFormat(receipt) {
  require(isReceipt(receipt), "format", "not a receipt of this version: it violates the schema");
}

// Hash and signature

/** Check the hash, and return the bytes that it covers, which the signature covers too. */
async function checkHash(receipt) {
  const { hash, signature, ...rest } = receipt;
  const content = new TextEncoder().encode(canonicalJson(rest));
  require(hash === `sha256:${toHex(await sha256(content))}`, "hash", "the receipt was altered");
  return content;
}

async function checkSignature(receipt, content, rawKey) {
  const id = toHex(await sha256(rawKey)).slice(0, 16);
  require(receipt.signing_key === id, "signature", `signed by key ${receipt.signing_key}, but the given key is ${id}`);
  const key = await crypto.subtle.importKey("raw", rawKey, { name: "Ed25519" }, false, ["verify"]);
  const signature = Uint8Array.from(atob(receipt.signature), (letter) => letter.charCodeAt(0));
  const isValid = await crypto.subtle.verify({ name: "Ed25519" }, key, signature, content);
  require(isValid, "signature", "the signature does not match the receipt");
}

async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Return the 32 bytes of a public key, from these bytes or from PEM text as `openssl pkey -pubout` writes it. */
export function readPublicKey(key) {
  let bytes = key;
  if (typeof key === "string") {
    const found = /^-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----\s*$/.exec(key.trim());
    bytes = found ? Uint8Array.from(atob(found[1].replace(/\s/g, "")), (letter) => letter.charCodeAt(0)) : [];
    const isEd25519 = bytes.length === 44 && toHex(bytes.slice(0, 12)) === "302a300506032b6570032100";
    bytes = isEd25519 ? bytes.slice(12) : [];
  }
  if (bytes.length !== 32) throw new TypeError("publicKey is not an Ed25519 public key: use PEM text, or 32 bytes");
  return Uint8Array.from(bytes);
}

// Subject

function checkSubject(receipt, requestId, account) {
  for (const [name, expected] of [["request_id", requestId], ["account", account]]) {
    const isSame = expected === undefined || receipt[name] === expected;
    require(isSame, "subject", `the receipt is for ${name} ${receipt[name]}, not ${expected}`);
  }
}

// Arithmetic, in exact fractions [numerator, denominator]

const ZERO = [0n, 1n];
const ONE = [1n, 1n];

function fraction(text) {
  const [whole, decimals = ""] = text.split(".");
  return [BigInt(whole + decimals), 10n ** BigInt(decimals.length)];
}

const multiply = ([a, b], [c, d]) => [a * c, b * d];
const divide = ([a, b], [c, d]) => [a * d, b * c];
const add = ([a, b], [c, d]) => [a * d + c * b, b * d];
const subtract = ([a, b], [c, d]) => [a * d - c * b, b * d];
const isEqual = ([a, b], [c, d]) => a * d === c * b;

/** What a line costs, in nominal quota. */
function costOf([, quantity, per, unitPrice]) {
  return divide(multiply(fraction(quantity), fraction(unitPrice)), fraction(per));
}

const sum = (lines) => lines.map(costOf).reduce(add, ZERO);

function checkArithmetic(receipt) {
  let total = ZERO;
  for (const charge of receipt.charges) {
    for (const since of [charge.price_since, charge.group_since]) {
      // Without the Z, texts of two times sort as the times do.
      const isBefore = since.slice(0, -1) <= receipt.at.slice(0, -1);
      require(isBefore, "arithmetic", `${since} is after the request, ${receipt.at}`);
    }
    checkContext(charge.context);
    for (const line of charge.lines) checkUnitPrice(line, charge);
    const charged = sum(charge.lines.filter(([meter]) => meter !== "minimum_charge"));
    const supplement = sum(charge.lines.filter(([meter]) => meter === "minimum_charge"));
    const missing = subtract(fraction(charge.minimum ?? "0"), charged);
    const isMinimum = isEqual(supplement, missing[0] > 0n ? missing : ZERO);
    require(isMinimum, "arithmetic", "the supplement to the minimum charge is wrong");
    total = add(total, add(charged, supplement));
  }
  const credits = multiply(fraction(receipt.credits), fraction(receipt.nominal_per_credit));
  require(isEqual(credits, total), "arithmetic", `the lines do not add up to ${receipt.credits} Credits`);
}

function checkContext(context = {}) {
  const tokens = BigInt(context.input_tokens ?? "0");
  const isWithin =
    (context.over === undefined || tokens > BigInt(context.over)) &&
    (context.from === undefined || tokens >= BigInt(context.from)) &&
    (context.up_to === undefined || tokens <= BigInt(context.up_to)) &&
    (context.under === undefined || tokens < BigInt(context.under));
  require(isWithin, "arithmetic", `${tokens} input tokens are outside their context tier`);
}

/** A line with a ratio costs list price x exchange rate x ratio; one without has the group's own price. */
function checkUnitPrice([meter, , , unitPrice, listPrice, ratio], charge) {
  if (ratio === null) return;
  require(listPrice !== null, "arithmetic", `${meter}: a ratio without a list price`);
  const isNominal = charge.exchange_rate === undefined || (charge.nominal_meters ?? []).includes(meter);
  const rate = isNominal ? ONE : fraction(charge.exchange_rate);
  const expected = multiply(multiply(fraction(listPrice), rate), fraction(ratio));
  const isRight = isEqual(fraction(unitPrice), expected);
  require(isRight, "arithmetic", `${meter}: the unit price is not list price x exchange rate x ratio`);
}

// Prices, against the rate cards of the price file

const CARD_FIELDS = ["model", "service_tier", "router", "region", "mode", "window"];
const PRICE_FIELDS = ["price_since", "group_since", "list_currency", "exchange_rate", "minimum"];
const BOUNDS = ["over", "from", "up_to", "under"];

function checkPrices(receipt, rateCards) {
  for (const name of ["currency", "nominal_per_credit"]) {
    require(receipt[name] === rateCards[name], "prices", `${name} is ${receipt[name]}, not ${rateCards[name]}`);
  }
  for (const charge of receipt.charges) checkCharge(charge, receipt, rateCards);
}

function checkCharge(charge, receipt, rateCards) {
  const at = receipt.at.slice(0, -1);
  const bounds = charge.context ?? {};
  const cards = rateCards.cards.filter(
    (card) =>
      card.group === receipt.group &&
      CARD_FIELDS.every((name) => card[name] === charge[name]) &&
      BOUNDS.every((name) => card.context[name] === bounds[name]) &&
      card.from.slice(0, -1) <= at &&
      (card.to === undefined || at < card.to.slice(0, -1)),
  );
  require(cards.length === 1, "prices", `there is no such price of ${charge.model} at ${receipt.at}`);
  const [card] = cards;
  const window = card.windows.find((name) => isInWindow(receipt.at, rateCards.calendars[name]));
  require(window === charge.window, "prices", `at ${receipt.at}, window ${window ?? "none"} applies`);
  for (const name of PRICE_FIELDS) {
    require(card[name] === charge[name], "prices", `${name} is ${charge[name]}, not ${card[name]}`);
  }
  const quantities = new Map(charge.lines.map(([meter, quantity]) => [meter, quantity]));
  for (const [meter, quantity, ...prices] of charge.lines) {
    const expected = Object.hasOwn(card.prices, meter) ? card.prices[meter] : [];
    const isPrice = prices.every((price, index) => price === expected[index]);
    require(isPrice && expected.length > 0, "prices", `${meter}: the price differs from the price file`);
    const places = quantity.split(".")[1]?.length ?? 0;
    require(places <= Number(expected[4]), "prices", `${meter}: ${quantity} has too many decimal places`);
  }
  const nominal = charge.lines.map(([meter]) => meter).filter((meter) => card.nominal_meters.includes(meter));
  const stated = charge.nominal_meters ?? [];
  const isSame = stated.join() === nominal.join() && (stated.length > 0 || charge.nominal_meters === undefined);
  require(isSame, "prices", "nominal_meters differ from the price file");
  checkDerived(charge, quantities, card, rateCards.input_meters);
}

/** Return whether a time is in a window of a calendar: the start of a window is, its end is not. */
function isInWindow(at, calendar) {
  const time = at.slice(0, -1);
  const rule = calendar.rules.find(
    ({ from, to }) => from.slice(0, -1) <= time && (to === undefined || time < to.slice(0, -1)),
  );
  if (rule === undefined) return false;
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: calendar.time_zone,
    calendar: "gregory",
    numberingSystem: "latn",
    hourCycle: "h23",
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit",
  });
  const local = Object.fromEntries(format.formatToParts(new Date(at)).map(({ type, value }) => [type, value]));
  const clock = `${local.hour}:${local.minute}`;
  const today = Date.UTC(Number(local.year), Number(local.month) - 1, Number(local.day));
  const startsOn = (day) => {
    const date = new Date(day).toISOString().slice(0, 10);
    const weekday = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"][new Date(day).getUTCDay()];
    const isExcluded = rule.excluded_dates.some(([first, last]) => first <= date && date <= last);
    return rule.weekdays.includes(weekday) && !isExcluded;
  };
  return rule.hours.some(([start, end]) => {
    if (start < end) return start <= clock && clock < end && startsOn(today);
    return (clock >= start && startsOn(today)) || (clock < end && startsOn(today - 86_400_000));
  });
}

/** Check the quantities that follow from others: input tokens, router fee, fee per request. */
function checkDerived(charge, quantities, card, inputMeters) {
  const input = inputMeters.reduce((total, meter) => total + BigInt(quantities.get(meter) ?? "0"), 0n);
  const hasBounds = Object.keys(card.context).length > 0;
  const isContext = hasBounds ? charge.context?.input_tokens === String(input) : charge.context === undefined;
  require(isContext, "prices", "context states other input tokens than the lines");
  for (const [meter, expected] of [["request", 1n], ["router_fee", input]]) {
    const required = Object.hasOwn(card.prices, meter) && expected !== 0n ? String(expected) : undefined;
    require(quantities.get(meter) === required, "prices", `${meter} must be ${required ?? "absent"}`);
  }
}
