const payload = JSON.parse(document.getElementById("data").textContent);
const { messages: MESSAGES, form: FORM } = payload;
const translate = (key, values = {}) =>
  MESSAGES[key].replace(/\{(\w+)\}/g, (placeholder, name) => (Object.hasOwn(values, name) ? values[name] : placeholder));

// RFC 8785: sort() orders keys by UTF-16 code units, and JSON.stringify escapes strings, as the RFC requires.
function canonicalJson(value) {
  if (Array.isArray(value)) return "[" + value.map(canonicalJson).join(",") + "]";
  if (value && typeof value === "object") {
    return "{" + Object.keys(value).sort().map((key) => JSON.stringify(key) + ":" + canonicalJson(value[key])).join(",") + "}";
  }
  return JSON.stringify(value);
}
const toHex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const decodeBase64 = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

// ---- equations that must hold in the document: [name, left side, right side]
const sum = (texts) => texts.map(Decimals.parse).reduce(Decimals.add, Decimals.ZERO);
function* equations(bill) {
  const { totals, lines } = bill;
  const credits = Decimals.parse(totals.credits), perCredit = Decimals.parse(totals.nominal.per_credit);
  yield ["lines: credits", sum(lines.map((line) => line.credits)), credits];
  yield ["lines: rounded credits", sum(lines.map((line) => line.rounded.credits)), Decimals.parse(totals.rounded.credits)];
  yield ["lines: rounded nominal", sum(lines.map((line) => line.rounded.nominal)), Decimals.parse(totals.rounded.nominal)];
  for (const name of Object.keys(totals.channels)) {
    const channel = totals.channels[name];
    yield [`lines: rounded ${name}`, sum(lines.map((line) => line.rounded.channels[name])), Decimals.parse(totals.rounded.channels[name])];
    const parts = channel.price_periods.map((part) => Decimals.multiply(Decimals.parse(part.price_per_credit), Decimals.parse(part.credits)));
    yield [`${name}: amount`, parts.reduce(Decimals.add, Decimals.ZERO), Decimals.parse(channel.amount)];
    // A note is the difference of two bills. A channel that is in only one of them counts as zero in the other.
    if (bill.kind === "invoice") yield [`${name}: credits`, sum([...channel.price_periods.map((part) => part.credits), channel.credits_without_price]), credits];
  }
  // A note is the difference of two bills, which may have different prices of a Credit.
  for (const [index, line] of bill.kind === "invoice" ? lines.entries() : []) {
    // credits = quantity x unit price / per / nominal per Credit; multiplied out, because a division may not be exact.
    const left = Decimals.multiply(Decimals.multiply(Decimals.parse(line.credits), perCredit), Decimals.parse(String(line.per)));
    yield [`lines[${index}]`, left, Decimals.multiply(Decimals.parse(line.quantity), Decimals.parse(line.unit_price))];
    if (line.list_price !== null && line.ratio !== null) {
      // A list price in another currency is worth its exchange rate in the nominal currency.
      const listed = Decimals.multiply(Decimals.parse(line.list_price), Decimals.parse(line.exchange_rate || "1"));
      yield [`lines[${index}]: price`, Decimals.multiply(listed, Decimals.parse(line.ratio)), Decimals.parse(line.unit_price)];
    }
  }
  if (bill.kind === "invoice") yield ["nominal", Decimals.multiply(credits, perCredit), Decimals.parse(totals.nominal.amount)];
  yield ["days: credits", sum(bill.days.map((day) => day.credits)), credits];
  yield ["days: requests", sum(bill.days.map((day) => String(day.requests))), Decimals.parse(String(totals.requests))];
  const { list, cache, group } = bill.savings;
  yield ["savings", Decimals.parse(list), sum([totals.credits, cache, group])];
  if (bill.taxes) {
    const { net, lines: taxes, gross } = bill.taxes;
    yield ["taxes", sum([net, ...taxes.map((tax) => tax.amount)]), Decimals.parse(gross)];
    const cost = totals.rounded.channels[bill.payment.channel] ?? "0"; // a bill without usage has no channels
    yield ["taxes: cost", Decimals.parse(cost), Decimals.parse(bill.taxes.included ? gross : net)];
  }
  if (bill.balance) {
    const { opening, movements, closing } = bill.balance;
    yield ["balance", sum([opening, ...movements.map((movement) => movement.credits)]), sum([closing, totals.credits])];
  }
}

// ---- the figures and texts on the page
function valueAtPath(bill, path) {
  // The name of a channel may contain dots, so the longest key that exists is used.
  let value = bill;
  const steps = path.split(".");
  while (steps.length && value !== null && typeof value === "object") {
    let size = steps.length;
    while (size > 1 && !Object.hasOwn(value, steps.slice(0, size).join("."))) size--;
    value = value[steps.splice(0, size).join(".")];
  }
  return value;
}
// U+FFFD replaces characters that cannot be displayed, as in bill_page.py.
const replaceInvisible = (text) => String(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
// Whether a figure is an exact amount, rounded: less than one unit of its last decimal place from it.
function isRounded(shown, exact, places) {
  const text = shown.replaceAll(FORM.group, "").replace(FORM.decimal, ".");
  if (!/^-?\d+(\.\d+)?$/.test(text) || (text.split(".")[1] || "").length !== places || formatDigits(text, FORM) !== shown) return false;
  const { coefficient, places: common } = Decimals.add(Decimals.parse(text), Decimals.negate(Decimals.parse(exact)));
  const distance = (coefficient < 0n ? -coefficient : coefficient) * 10n ** BigInt(places);
  return distance < 10n ** BigInt(common);
}
function* findMismatches(bill) {
  for (const element of document.querySelectorAll("[data-path]")) {
    const path = element.dataset.path, value = valueAtPath(bill, path);
    const shown = element.matches("time") ? element.getAttribute("datetime") : element.textContent;
    if (element.dataset.as === "rounded" && isRounded(shown, String(value), bill.rounding.credit_digits)) continue;
    const right = element.matches("time") ? value : element.dataset.as === "text" ? replaceInvisible(value) : formatDigits(value, FORM);
    if (shown !== right) yield { shown, right, path, element };
  }
}
// The text that bill_page.py hashed: the title, then elements, texts and attributes of <main> in document order.
const DIGESTED_ATTRIBUTES = { rect: ["class", "x", "y", "width", "height"], "": ["data-path", "hidden"] };
function digestText() {
  const parts = [document.title];
  const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  for (let node = walker.currentNode; node; node = walker.nextNode()) {
    if (node.nodeType === Node.TEXT_NODE) { parts.push(node.data); continue; }
    const names = (DIGESTED_ATTRIBUTES[node.localName] || DIGESTED_ATTRIBUTES[""]).filter((name) => node.hasAttribute(name));
    parts.push(["<" + node.localName, ...names.map((name) => `${name}=${node.getAttribute(name)}`)].join(" "));
  }
  return parts.join(" ").split(/[ \t\n\f]+/).filter(Boolean).join(" ");
}
// Text outside of the bill, and figures of the bill that are not visible.
function* findForeignText() {
  if (document.querySelectorAll("main").length !== 1) yield "main";
  for (const node of document.body.childNodes) {
    const own = node.nodeType === Node.ELEMENT_NODE && (node.localName === "script" || node.localName === "main" || node.id === "check");
    if (!own && node.textContent.trim()) yield node.textContent.trim().slice(0, 60);
  }
  for (const element of document.querySelectorAll("[data-path]")) {
    if (element.textContent && !element.getClientRects().length) yield element.dataset.path;
  }
}

// ---- the check of the page; a result is [kind, text], and kind is "good", "bad" or "open" (not checked)
async function checkPage() {
  const results = [];
  const addResult = (kind, text) => results.push([kind, text]);
  const bill = payload.document;
  const { hash, signature, ...signed } = bill;
  const bytes = new TextEncoder().encode(canonicalJson(signed));
  const subtle = globalThis.crypto && crypto.subtle;
  if (subtle) {
    const actual = "sha256:" + toHex(await subtle.digest("SHA-256", bytes));
    if (actual === hash) addResult("good", translate("check_hash"));
    else { addResult("bad", translate("bad_hash", { found: actual })); document.getElementById("save").hidden = true; }
  } else {
    addResult("open", translate("not_checked", { what: translate("no_crypto") }));
  }
  const failed = [...equations(bill)].filter(([, left, right]) => Decimals.compare(left, right) !== 0)
    .map(([name, left, right]) => `${name} (${Decimals.format(left)}, ${Decimals.format(right)})`);
  if (failed.length) addResult("bad", translate("bad_sums", { what: failed.slice(0, 5).join("; ") }));
  else addResult("good", translate("check_sums"));
  const mismatches = [...findMismatches(bill)];
  for (const mismatch of mismatches.slice(0, 5)) addResult("bad", translate("bad_shown", mismatch));
  for (const { element } of mismatches) element.classList.add("altered");
  if (!mismatches.length) addResult("good", translate("check_shown"));
  for (const what of [...findForeignText()].slice(0, 5)) addResult("bad", translate("bad_beside", { what }));
  if (subtle) {
    const digest = toHex(await subtle.digest("SHA-256", new TextEncoder().encode(digestText())));
    if (digest === document.querySelector("main").dataset.digest) addResult("good", translate("check_text"));
    else addResult("bad", translate("bad_text"));
  }
  if (bill.signing_key === null) addResult("open", translate("check_unsigned"));
  else if (!payload.key) addResult("open", translate("not_checked", { what: translate("no_key") }));
  else if (!subtle) addResult("open", translate("not_checked", { what: translate("no_crypto") }));
  else addResult(...await checkSignature(subtle, bill, bytes));
  return results;
}
async function checkSignature(subtle, bill, bytes) {
  const raw = decodeBase64(payload.key.raw);
  const id = toHex(await subtle.digest("SHA-256", raw)).slice(0, 16);
  let key;
  try { key = await subtle.importKey("raw", raw, { name: "Ed25519" }, false, ["verify"]); } catch {
    return ["open", translate("not_checked", { what: translate("no_ed25519") })];
  }
  let valid = false;
  try { valid = id === bill.signing_key && await subtle.verify("Ed25519", key, decodeBase64(bill.signature), bytes); } catch { valid = false; }
  return valid ? ["good", translate("check_signature", { key: id })] : ["bad", translate("bad_signature", { key: bill.signing_key })];
}

function renderVerdict(results) {
  const bad = results.some(([kind]) => kind === "bad"), open = results.some(([kind]) => kind === "open");
  const verdict = translate(bad ? "check_bad" : open ? "check_part" : "check_good");
  document.getElementById("verdict").textContent = verdict;
  document.getElementById("checks").replaceChildren(...results.map(([kind, text]) => {
    const item = document.createElement("li");
    item.className = kind;
    item.textContent = text;
    return item;
  }));
  document.getElementById("check").classList.toggle("failed", bad);
  if (bad) {
    const banner = document.createElement("p");
    banner.id = "banner";
    banner.setAttribute("role", "alert");
    const link = document.createElement("a");
    link.href = "#check";
    link.textContent = translate("check_what");
    banner.append(verdict, " ", link);
    document.body.prepend(banner);
  }
}
document.getElementById("verdict").textContent = translate("check_running");
const saveButton = document.getElementById("save");
saveButton.hidden = false; // checkPage() hides it again if the document itself was altered
saveButton.addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([canonicalJson(payload.document)], { type: "application/json" }));
  link.download = "invoice.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
checkPage().then(renderVerdict, (error) => renderVerdict([["bad", `${translate("bad_document")} ${error.message}`]]));
