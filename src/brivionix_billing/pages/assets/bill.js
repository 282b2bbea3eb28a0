const given = JSON.parse(document.getElementById("data").textContent);
const { words: WORDS, form: FORM } = given;
const say = (key, values = {}) => WORDS[key].replace(/\{(\w+)\}/g, (whole, name) => (Object.hasOwn(values, name) ? values[name] : whole));

// RFC 8785: keys by UTF-16 code units, which is how sort() orders strings; strings as JSON.stringify writes them.
function canonical(value) {
  if (Array.isArray(value)) return "[" + value.map(canonical).join(",") + "]";
  if (value && typeof value === "object") {
    return "{" + Object.keys(value).sort().map((key) => JSON.stringify(key) + ":" + canonical(value[key])).join(",") + "}";
  }
  return JSON.stringify(value);
}
const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

// ---- sums: what must be equal in the document, as pairs of exact decimals
const sum = (texts) => texts.map(Exact.of).reduce(Exact.plus, { n: 0n, p: 0 });
const minus = (a) => ({ n: -a.n, p: a.p });
function* sums(bill) {
  const { totals, lines } = bill;
  const credits = Exact.of(totals.credits), perCredit = Exact.of(totals.nominal.per_credit);
  yield ["lines: credits", sum(lines.map((line) => line.credits)), credits];
  yield ["lines: rounded credits", sum(lines.map((line) => line.rounded.credits)), Exact.of(totals.rounded.credits)];
  yield ["lines: rounded nominal", sum(lines.map((line) => line.rounded.nominal)), Exact.of(totals.rounded.nominal)];
  for (const name of Object.keys(totals.channels)) {
    const channel = totals.channels[name];
    yield [`lines: rounded ${name}`, sum(lines.map((line) => line.rounded.channels[name])), Exact.of(totals.rounded.channels[name])];
    const parts = channel.price_periods.map((part) => Exact.times(Exact.of(part.price_per_credit), Exact.of(part.credits)));
    yield [`${name}: amount`, parts.reduce(Exact.plus, { n: 0n, p: 0 }), Exact.of(channel.amount)];
    // A note is a difference of two bills, and a channel that only one of them has counts in the other as nothing.
    if (bill.kind === "invoice") yield [`${name}: credits`, sum([...channel.price_periods.map((part) => part.credits), channel.credits_without_price]), credits];
  }
  // A note is a difference of two bills, whose prices of a Credit need not be the same.
  for (const [index, line] of bill.kind === "invoice" ? lines.entries() : []) {
    // credits = quantity x unit price / per / nominal per Credit, so without a division:
    const left = Exact.times(Exact.times(Exact.of(line.credits), perCredit), Exact.of(String(line.per)));
    yield [`lines[${index}]`, left, Exact.times(Exact.of(line.quantity), Exact.of(line.unit_price))];
    if (line.list_price !== null && line.ratio !== null) {
      yield [`lines[${index}]: price`, Exact.times(Exact.of(line.list_price), Exact.of(line.ratio)), Exact.of(line.unit_price)];
    }
  }
  if (bill.kind === "invoice") yield ["nominal", Exact.times(credits, perCredit), Exact.of(totals.nominal.amount)];
  yield ["days: credits", sum(bill.days.map((day) => day.credits)), credits];
  yield ["days: requests", sum(bill.days.map((day) => String(day.requests))), Exact.of(String(totals.requests))];
  const saved = bill.savings;
  yield ["savings", [Exact.of(saved.list), minus(Exact.of(saved.cache)), minus(Exact.of(saved.group))].reduce(Exact.plus), credits];
  if (bill.balance) {
    const { opening, movements, closing } = bill.balance;
    yield ["balance", Exact.plus(sum([opening, ...movements.map((movement) => movement.credits)]), minus(credits)), Exact.of(closing)];
  }
}

// ---- what is shown
const at = (bill, path) => {
  // A channel's name may hold dots, so the longest key that is there is taken.
  let value = bill;
  const steps = path.split(".");
  while (steps.length && value !== null && typeof value === "object") {
    let size = steps.length;
    while (size > 1 && !Object.hasOwn(value, steps.slice(0, size).join("."))) size--;
    value = value[steps.splice(0, size).join(".")];
  }
  return value;
};
// Signs that cannot be shown stand as U+FFFD.
const clean = (text) => String(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
function* wronglyShown(bill) {
  for (const part of document.querySelectorAll("[data-of]")) {
    const path = part.dataset.of, value = at(bill, path);
    const shown = part.matches("time") ? part.getAttribute("datetime") : part.textContent;
    const right = part.matches("time") ? value : part.dataset.as === "text" ? clean(value) : inForm(value, FORM);
    if (shown !== right) yield { shown, right, path, part };
  }
}
// Title, elements and texts in their order, and the attributes that say what is shown: as the page was written.
const TOLD = { rect: ["class", "x", "y", "width", "height"], "": ["data-of", "hidden"] };
function pageText() {
  const out = [document.title];
  const walk = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  for (let node = walk.currentNode; node; node = walk.nextNode()) {
    if (node.nodeType === Node.TEXT_NODE) { out.push(node.data); continue; }
    const kept = (TOLD[node.localName] || TOLD[""]).filter((name) => node.hasAttribute(name));
    out.push(["<" + node.localName, ...kept.map((name) => `${name}=${node.getAttribute(name)}`)].join(" "));
  }
  return out.join(" ").split(/[ \t\n\f]+/).filter(Boolean).join(" ");
}
// What stands beside the bill, or is there and cannot be seen.
function* beside() {
  if (document.querySelectorAll("main").length !== 1) yield "main";
  for (const part of document.body.childNodes) {
    const ours = part.nodeType === Node.ELEMENT_NODE && (part.localName === "script" || part.localName === "main" || part.id === "check");
    if (!ours && part.textContent.trim()) yield part.textContent.trim().slice(0, 60);
  }
  for (const part of document.querySelectorAll("[data-of]")) if (part.textContent && !part.getClientRects().length) yield part.dataset.of;
}

async function check() {
  const found = [];
  const put = (kind, text) => found.push([kind, text]);
  const bill = given.document;
  const { hash, signature, ...signed } = bill;
  const text = new TextEncoder().encode(canonical(signed));
  const subtle = globalThis.crypto && crypto.subtle;
  if (subtle) {
    const right = "sha256:" + hex(await subtle.digest("SHA-256", text));
    if (right === hash) put("good", say("check_hash"));
    else { put("bad", say("bad_hash", { found: right })); document.getElementById("save").hidden = true; }
  } else {
    put("open", say("not_checked", { what: say("no_crypto") }));
  }
  const off = [...sums(bill)].filter(([, a, b]) => Exact.compare(a, b) !== 0).map(([what, a, b]) => `${what} (${Exact.text(a)}, ${Exact.text(b)})`);
  if (off.length) put("bad", say("bad_sums", { what: off.slice(0, 5).join("; ") })); else put("good", say("check_sums"));
  const wrong = [...wronglyShown(bill)];
  for (const one of wrong.slice(0, 5)) put("bad", say("bad_shown", one));
  for (const one of wrong) one.part.classList.add("altered");
  if (!wrong.length) put("good", say("check_shown"));
  for (const what of [...beside()].slice(0, 5)) put("bad", say("bad_beside", { what }));
  if (subtle) {
    const digest = hex(await subtle.digest("SHA-256", new TextEncoder().encode(pageText())));
    if (digest === document.querySelector("main").dataset.digest) put("good", say("check_text"));
    else put("bad", say("bad_text"));
  }
  if (bill.signing_key === null) put("open", say("check_unsigned"));
  else if (!given.key) put("open", say("not_checked", { what: say("no_key") }));
  else if (!subtle) put("open", say("not_checked", { what: say("no_crypto") }));
  else await checkSignature(subtle, bill, text, put);
  return found;
}
async function checkSignature(subtle, bill, text, put) {
  const raw = bytesOf(given.key.raw);
  const id = hex(await subtle.digest("SHA-256", raw)).slice(0, 16);
  let key;
  try { key = await subtle.importKey("raw", raw, { name: "Ed25519" }, false, ["verify"]); } catch {
    return put("open", say("not_checked", { what: say("no_ed25519") }));
  }
  let fits = false;
  try { fits = id === bill.signing_key && await subtle.verify("Ed25519", key, bytesOf(bill.signature), text); } catch { fits = false; }
  return fits ? put("good", say("check_signature", { key: id })) : put("bad", say("bad_signature", { key: bill.signing_key }));
}

function tell(found) {
  const bad = found.some(([kind]) => kind === "bad"), open = found.some(([kind]) => kind === "open");
  const verdict = say(bad ? "check_bad" : open ? "check_part" : "check_good");
  document.getElementById("verdict").textContent = verdict;
  document.getElementById("checks").replaceChildren(...found.map(([kind, text]) => {
    const item = document.createElement("li");
    item.className = kind;
    item.textContent = text;
    return item;
  }));
  document.getElementById("check").classList.toggle("spoiled", bad);
  if (bad) {
    const banner = document.createElement("p");
    banner.id = "banner";
    banner.setAttribute("role", "alert");
    const link = document.createElement("a");
    link.href = "#check";
    link.textContent = say("check_what");
    banner.append(verdict, " ", link);
    document.body.prepend(banner);
  }
}
document.getElementById("verdict").textContent = say("check_running");
const save = document.getElementById("save");
save.hidden = false; // the check hides it again where the document itself was spoiled
save.addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([canonical(given.document)], { type: "application/json" }));
  link.download = "invoice.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
check().then(tell, (error) => tell([["bad", `${say("bad_document")} ${error.message}`]]));
