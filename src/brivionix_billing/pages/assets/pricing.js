const { list, words: WORDS, meters: METERS, tiers: TIERS, formats: FORMATS, start } =
  JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const PER = Object.fromEntries(list.meters.map((meter) => [meter.name, meter.per]));
const isTokens = (meter) => PER[meter] === 1000000;
const MODELS = Object.fromEntries(list.models.map((model) => [model.name, model]));
const CHANNELS = list.channels.filter((channel) => channel.price_per_credit !== null);
const MOST = 10n ** 12n;

// ---- what is looked at; all of it can stand in the address
const DEFAULTS = {
  lang: start.language, group: start.group, view: "nominal", channel: CHANNELS.length ? CHANNELS[0].name : "",
  unit: "1m", tier: start.tier, window: "0", q: "", unusable: "", sort: "", dir: "",
  model: "", mtier: "", input: "12000", cached: "10000", output: "800", searches: "0",
};
const POSSIBLE = {
  lang: Object.keys(WORDS), group: list.groups.map((group) => group.name), view: ["nominal", "topup"],
  channel: CHANNELS.map((channel) => channel.name), unit: ["1m", "1k"], tier: ["every", ...Object.keys(TIERS.en)],
  unusable: ["", "1"], sort: ["", "model", ...list.meters.map((meter) => meter.name)], dir: ["", "desc"],
};
let state = { ...DEFAULTS };

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  state = { ...DEFAULTS };
  for (const [key, value] of given) {
    if (!Object.hasOwn(DEFAULTS, key) || value.length > 128) continue;
    if (!POSSIBLE[key] || POSSIBLE[key].includes(value)) state[key] = value;
  }
  if (state.view === "topup" && !CHANNELS.length) state.view = "nominal";
}
function address() {
  const out = new URLSearchParams();
  for (const key of Object.keys(DEFAULTS)) if (state[key] !== DEFAULTS[key]) out.set(key, state[key]);
  return "#" + out;
}
function set(changes) {
  Object.assign(state, changes);
  try { history.replaceState(null, "", address()); } catch { /* some browsers forbid it for files; the view still works */ }
  render();
}

// ---- words and figures
const say = (key, values = {}) =>
  WORDS[state.lang][key].replace(/\{(\w+)\}/g, (whole, name) => (Object.hasOwn(values, name) ? values[name] : whole));
const form = () => FORMATS[state.lang];
const number = (text) => inForm(String(text), form());
// Replacements are functions: in a text, "$" would mean something.
const money = (text, currency) => form().money[currency].replace("#", () => inForm(text, form(), form().coins[currency]));
const percent = (text) => form().percent.replace("#", () => inForm(Exact.text(Exact.times(Exact.of(text), { n: 100n, p: 0 })), form()));
const inUnit = (text, meter) => {
  if (state.unit === "1m" || !isTokens(meter)) return text;
  const { n, p } = Exact.of(text);
  return Exact.text({ n, p: p + 3 });
};
const shown = (text, currency) => {
  const rounded = (list.shown[currency] || {})[text] || text;
  return /^[0.]+$/.test(rounded) ? say("free") : money(rounded, currency);
};
const described = (texts) => texts[state.lang] || texts[""] || Object.values(texts)[0] || "";
const unitOf = (meter) =>
  say(!isTokens(meter) ? "per_calls" : state.unit === "1m" ? "per_m_tokens" : "per_k_tokens");
const theGroup = () => list.groups.find((group) => group.name === state.group);
const theChannel = () => CHANNELS.find((channel) => channel.name === state.channel);
const currencyOf = () => (state.view === "topup" ? theChannel().currency : list.currency);
const pricesOf = (row) => (state.view === "topup" ? row.topup[state.channel] || {} : row.nominal);

// ---- elements; texts are always set as text, never as markup
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
const small = (text) => element("span", { class: "small muted" }, text);

function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
  select.value = chosen;
}

// ---- the table
function rowsOf(group) {
  const query = state.q.trim().toLowerCase();
  const matches = (name) => {
    const model = MODELS[name];
    return model.context.window >= Number(byId("window").value) &&
      [name, ...model.aliases, described(model.description)].join("\n").toLowerCase().includes(query);
  };
  const wanted = state.tier === "every" ? null : state.tier;
  const sold = group.prices.filter((row) => matches(row.model) && (!wanted || row.service_tier === wanted));
  const there = new Set(sold.map((row) => row.model));
  const off = group.models.filter((name) => matches(name) && !there.has(name)).map((model) => ({ model, off: "not_sold" }));
  if (state.unusable) off.push(...group.not_allowed.filter(matches).map((model) => ({ model, off: "not_in_group" })));
  return [...sorted(sold), ...off];
}
function sorted(rows) {
  const way = state.dir ? -1 : 1;
  if (state.sort === "model") return [...rows].sort((a, b) => way * (a.model < b.model ? -1 : a.model > b.model ? 1 : 0));
  if (!state.sort) return rows;
  const priced = [], rest = [];
  for (const row of rows) {
    const price = pricesOf(row)[state.sort];
    if (price === undefined) rest.push(row); else priced.push([Exact.of(price), row]);
  }
  priced.sort((a, b) => way * Exact.compare(a[0], b[0]));
  return [...priced.map((pair) => pair[1]), ...rest];
}
function contextNote(row) {
  if (row.above === null) return "";
  return say(row.context === "long" ? "long_context" : "short_context", { tokens: number(row.above) });
}
function termsNote(row) {
  if (row.ratio === null) return say("own_price");
  return row.ratio === theGroup().ratio ? "" : say("ratio", { ratio: number(row.ratio) });
}
function header(columns) {
  const cell = (key, label, per) => {
    const up = state.sort === key && !state.dir, down = state.sort === key && state.dir;
    const button = element("button", { type: "button", class: "sort", "data-sort": key, title: say("sort_by", { column: label }) }, label);
    const made = element("th", {
      role: "columnheader", scope: "col", class: per ? "figure" : undefined,
      "aria-sort": up ? "ascending" : down ? "descending" : undefined,
    }, button);
    if (per) made.append(element("span", { class: "per" }, per));
    return made;
  };
  return element("thead", { role: "rowgroup", class: "sorts" }, element("tr", { role: "row" },
    cell("model", say("model"), ""),
    ...columns.map((meter) => cell(meter, METERS[state.lang][meter], unitOf(meter))),
    element("th", { role: "columnheader", scope: "col", class: "screen" }, element("span", { class: "unseen" }, say("copy_row"))),
  ));
}
function priceButton(exact, currency, meter) {
  const value = inUnit(exact, meter);
  return element("button", { type: "button", class: "price", "data-exact": value, "data-currency": currency, "data-meter": meter },
    shown(value, currency));
}
function tableRow(row, columns, currency, index) {
  const model = MODELS[row.model];
  const head = element("th", { role: "rowheader", scope: "row" }, element("span", { class: "name" }, row.model));
  if (row.service_tier && state.tier === "every") head.append(" ", element("span", { class: "badge" }, TIERS[state.lang][row.service_tier]));
  const notes = [row.off ? "" : termsNote(row), row.off ? "" : contextNote(row), say("window", { tokens: number(model.context.window) })].filter(Boolean);
  head.append(small(notes.join(" · ")));
  if (model.description && described(model.description)) head.append(small(described(model.description)));
  if (row.off) {
    return element("tr", { role: "row", class: "off" }, head,
      element("td", { role: "cell", colspan: columns.length + 1 }, say(row.off)));
  }
  const prices = pricesOf(row);
  const cells = columns.map((meter) => {
    const price = prices[meter];
    const label = METERS[state.lang][meter] + " " + unitOf(meter);
    if (price === undefined) return element("td", { role: "cell", class: "figure empty" }, element("span", { class: "unseen" }, say("no_price")));
    const value = element("div", {}, priceButton(price, currency, meter));
    const off = row.cache_discount[meter];
    if (off) value.append(small(say("off", { percent: percent(off) })));
    return element("td", { role: "cell", class: "figure", "data-label": label }, value);
  });
  const copy = element("button", { type: "button", "data-row": index, "aria-label": say("copy_row_of", { model: row.model }) }, say("copy_row"));
  return element("tr", { role: "row", class: row.context === "long" ? "long" : undefined }, head, ...cells, element("td", { role: "cell", class: "actions screen" }, copy));
}
let visible = [];
const columnsOf = (group) => list.meters.map((meter) => meter.name).filter((meter) => group.prices.some((row) => meter in row.nominal));

function renderTable() {
  const group = theGroup(), columns = columnsOf(group), currency = currencyOf();
  const heading = say("prices_of", { group: group.name });
  byId("prices-heading").textContent = heading;
  const ratio = /^0(\.0+)?$/.test(group.ratio) ? say("ratio_free") : say("ratio", { ratio: number(group.ratio) });
  byId("about").textContent = [described(group.description), ratio].filter(Boolean).join(" · ");
  byId("view").textContent = state.view === "topup"
    ? say("about_topup", { channel: state.channel, price: money(theChannel().price_per_credit, currency) })
    : say("about_nominal", { currency });
  visible = rowsOf(group);
  const count = new Set(visible.map((row) => row.model)).size;
  byId("count").textContent = !count ? say("none") : say(count === 1 ? "count_one" : "count", { n: number(count) });
  const body = element("tbody", { role: "rowgroup" });
  body.append(...visible.map((row, index) => tableRow(row, columns, currency, index)));
  const table = element("table", { class: "prices cards rows" + (visible.length > 60 ? " many" : ""), role: "table" },
    element("caption", { class: "unseen" }, heading), header(columns), body);
  table.style.setProperty("--columns", columns.length);
  byId("table").replaceChildren(element("div", { class: "scroll", role: "group", "aria-label": heading, tabindex: "0" }, table));
}

// ---- announced changes
function titleOf(change) {
  const above = change.above[1] === null ? change.above[0] : change.above[1];
  const context = change.context === "any" ? "" : contextNote({ above, context: change.context });
  return [change.model, TIERS[state.lang][change.service_tier], context].filter(Boolean).join(" · ");
}
function announced(group, currency) {
  const items = new Map(); // by time and text: a fee that changes for many models is told once
  const put = (at, title, told) => {
    const key = at + "\n" + told;
    if (!items.has(key)) items.set(key, { at, told, titles: new Set() });
    if (title) items.get(key).titles.add(title);
  };
  for (const channel of list.channels) {
    if (state.view === "topup" && channel.name !== state.channel) continue;
    for (const change of channel.changes) {
      const [was, now] = change.price_per_credit.map((text) => (text === null ? "–" : money(text, channel.currency)));
      put(change.at, "", say("credit_changes", { channel: channel.name, was, now }));
    }
  }
  for (const change of group.changes) {
    const prices = state.view === "topup" ? change.topup[state.channel] || {} : change.nominal;
    const price = (text, meter) => (text === null ? "–" : shown(inUnit(text, meter), currency));
    const told = change.kind === "changes" ? [] : [say(change.kind)];
    const [before, after] = change.above;
    if (change.kind === "changes" && before !== after && before !== null && after !== null) {
      told.push(say("threshold", { was: number(before), now: number(after) }));
    }
    for (const [meter, [was, now]] of change.kind === "ends" ? [] : Object.entries(prices)) {
      const text = change.kind === "begins"
        ? say("starts_at", { meter: METERS[state.lang][meter], now: price(now, meter) })
        : say("was_now", { meter: METERS[state.lang][meter], was: price(was, meter), now: price(now, meter) });
      if (isTokens(meter)) told.push(text); else put(change.at, change.model, `${text} ${unitOf(meter)}`);
    }
    if (told.length) put(change.at, titleOf(change), told.join(" · "));
  }
  return [...items.values()].sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
}
function renderChanges() {
  const items = announced(theGroup(), currencyOf());
  byId("changes-list").replaceChildren(items.length
    ? element("ul", { class: "changes" }, ...items.map(({ at, told, titles }) => element("li", {},
      element("time", { datetime: at }, start.dates[at][state.lang]),
      element("div", {}, ...(titles.size ? [element("strong", {}, [...titles].join(", "))] : []), element("div", {}, told)))))
    : element("p", { class: "small muted" }, say("nothing_announced")));
}

// ---- the calculator
function count(key, field) {
  const text = state[key].trim().replace(/[,_\s]/g, "") || "0";
  const value = /^\d{1,13}$/.test(text) ? BigInt(text) : MOST + 1n;
  byId("calc-" + key).setAttribute("aria-invalid", String(value > MOST));
  if (value > MOST) throw new RangeError(say("bad_count", { field: say(field) }));
  return value;
}
// The model and tier of the sample call: as chosen, where the group has them.
function callOf(group) {
  const models = [...new Set(group.prices.map((row) => row.model))];
  const model = models.includes(state.model) ? state.model : models[0] || "";
  const tiers = [...new Set(group.prices.filter((row) => row.model === model).map((row) => row.service_tier))];
  const tier = tiers.includes(state.mtier) ? state.mtier : tiers.includes("standard") ? "standard" : tiers[0] || "";
  return { models, model, tiers, tier };
}
function sample(group, call) {
  const input = count("input", "calc_input"), cached = count("cached", "calc_cached");
  const output = count("output", "calc_output"), searches = count("searches", "calc_searches");
  if (cached > input) {
    byId("calc-cached").setAttribute("aria-invalid", "true");
    throw new RangeError(say("bad_cached", { cached: number(cached), input: number(input) }));
  }
  const rows = group.prices.filter((row) => row.model === call.model && row.service_tier === call.tier);
  const row = rows.find((one) => one.context === "any" || (one.context === "long") === (input > BigInt(one.above)));
  const used = { input: input - cached, cache_read: cached, output, web_search: searches };
  let nominal = { n: 0n, p: 0 };
  const lines = [];
  for (const [meter, quantity] of Object.entries(used)) {
    if (!quantity) continue;
    const price = row.nominal[meter];
    if (price === undefined) throw new RangeError(say("bad_price", { meter: METERS[state.lang][meter] }));
    const exact = Exact.of(price), per = PER[meter] === 1000 ? 3 : 6;
    const part = { n: quantity * exact.n, p: exact.p + per };
    nominal = Exact.plus(nominal, part);
    lines.push([meter, quantity, price, Exact.text(part)]);
  }
  const credits = Exact.over(nominal, Exact.of(list.nominal_per_credit));
  return { row, lines, nominal, credits };
}
function renderSample() {
  const group = theGroup();
  const call = callOf(group);
  options(byId("calc-model"), call.models.map((name) => [name, name]), call.model);
  options(byId("calc-tier"), call.tiers.map((name) => [name, TIERS[state.lang][name]]), call.tier);
  const out = byId("result");
  if (!call.model) return out.replaceChildren(element("p", { class: "wrong" }, say("none")));
  let found;
  try { found = sample(group, call); } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return out.replaceChildren(element("p", { class: "wrong" }, error.message));
  }
  const results = [
    ["nominal", say("calc_nominal"), money(Exact.text(found.nominal), list.currency)],
    ["credits", say("calc_credits"), number(Exact.text(found.credits))],
    ...CHANNELS.filter((channel) => channel.name in found.row.topup).map((channel) => [
      channel.name, say("calc_topup", { channel: channel.name }),
      money(Exact.text(Exact.times(found.credits, Exact.of(channel.price_per_credit))), channel.currency)]),
  ];
  return out.replaceChildren(
    element("dl", {}, ...results.map(([key, label, text]) => element("div", { "data-result": key }, element("dt", {}, label), element("dd", {}, text)))),
    element("p", { class: "small muted" }, say("calc_exact", { group: group.name }),
      ...(found.row.context === "long" ? [" ", say("calc_long", { tokens: number(found.row.above) })] : [])),
    element("ul", { class: "small" }, ...found.lines.map(([meter, quantity, price, part]) => element("li", {},
      `${METERS[state.lang][meter]}: ${number(quantity)} × ${money(price, list.currency)} / ${number(PER[meter])} = ${money(part, list.currency)}`))),
  );
}

// ---- everything
function renderControls() {
  document.documentElement.lang = form().tag;
  for (const part of document.querySelectorAll("main > [lang], header [lang]:not(button)")) part.hidden = part.lang !== form().tag;
  for (const part of document.querySelectorAll("[data-say]")) part.textContent = say(part.dataset.say);
  for (const part of document.querySelectorAll("[data-label-say]")) part.setAttribute("aria-label", say(part.dataset.labelSay));
  if (!start.title) document.title = say("title");
  for (const button of document.querySelectorAll("[data-language]")) button.setAttribute("aria-pressed", String(button.dataset.language === state.lang));
  options(byId("group"), list.groups.map((group) => [group.name, group.name]), state.group);
  options(byId("tier"), [["every", say("every")], ...Object.entries(TIERS[state.lang])], state.tier);
  const windows = [...new Set(list.models.map((model) => model.context.window))].sort((a, b) => a - b);
  options(byId("window"), [["0", say("every")], ...windows.slice(1).map((tokens) => [String(tokens), say("context_least", { tokens: number(tokens) })])],
    windows.slice(1).map(String).includes(state.window) ? state.window : "0");
  byId("topup").setAttribute("aria-checked", String(state.view === "topup"));
  byId("topup").disabled = !CHANNELS.length;
  byId("channel-field").hidden = state.view !== "topup";
  byId("channels").replaceChildren(...CHANNELS.map((channel) => {
    const input = element("input", { type: "radio", name: "channel", value: channel.name });
    input.checked = channel.name === state.channel;
    return element("label", {}, input, `${channel.name} (${channel.currency})`);
  }));
  for (const input of document.querySelectorAll("input[name=unit]")) input.checked = input.value === state.unit;
  byId("unusable").checked = state.unusable === "1";
  for (const [id, key] of [["search", "q"], ["calc-input", "input"], ["calc-cached", "cached"], ["calc-output", "output"], ["calc-searches", "searches"]]) {
    if (byId(id).value !== state[key]) byId(id).value = state[key];
  }
}
function render() {
  const kept = keepFocus();
  renderControls();
  renderSample();
  renderTable();
  renderChanges();
  kept();
}
// What had the focus is made anew: the one that took its place gets it.
function keepFocus() {
  const at = document.activeElement;
  if (!at || at === document.body) return () => {};
  const way = at.dataset.sort ? `[data-sort="${at.dataset.sort}"]` : at.name === "channel" ? "input[name=channel]:checked" : null;
  return () => { if (way && !at.isConnected) { const now = document.querySelector(way); if (now) now.focus(); } };
}

let clear = 0;
function status(text) {
  byId("status").textContent = text;
  clearTimeout(clear);
  clear = setTimeout(() => { byId("status").textContent = ""; }, 6000);
}
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    status(say("copied", { text }));
  } catch {
    status(say("not_copied", { text }));
  }
}
// A spreadsheet runs a cell that begins like a formula.
const cellText = (text) => (/^[=+@\t\r-]/.test(text) ? "'" + text : text);
function copyRow(row) {
  const columns = columnsOf(theGroup()), currency = currencyOf(), prices = pricesOf(row);
  const unit = (meter) => `${meter} ${currency}/${isTokens(meter) ? state.unit.toUpperCase() : "1K"}`;
  const heads = ["model", "group", "service_tier", "context", "price", ...columns.map(unit)];
  const context = row.above === null ? "any" : (row.context === "long" ? ">" : "<=") + row.above;
  const view = state.view === "topup" ? state.channel : "nominal";
  const cells = [row.model, state.group, row.service_tier, context, view, ...columns.map((meter) => (meter in prices ? inUnit(prices[meter], meter) : ""))];
  return heads.join("\t") + "\n" + cells.map(cellText).join("\t");
}

function showTip(button) {
  const tip = byId("tip"), { exact, currency, meter } = button.dataset;
  tip.textContent = say("exact_hint", { price: say("exactly", { price: money(exact, currency) }), unit: unitOf(meter) });
  tip.hidden = false;
  const box = button.getBoundingClientRect();
  tip.style.top = `${box.bottom + scrollY + 4}px`;
  tip.style.left = `${Math.max(8, Math.min(box.right - tip.offsetWidth, innerWidth - tip.offsetWidth - 8)) + scrollX}px`;
  button.setAttribute("aria-describedby", "tip");
}
function hideTip() {
  byId("tip").hidden = true;
  for (const button of document.querySelectorAll("[aria-describedby=tip]")) button.removeAttribute("aria-describedby");
}
const priceAt = (event) => (event.target.closest ? event.target.closest(".price") : null);

function listen() {
  for (const kind of ["focusin", "mouseover"]) document.addEventListener(kind, (event) => { const at = priceAt(event); if (at) showTip(at); });
  document.addEventListener("focusout", (event) => { if (priceAt(event)) hideTip(); });
  document.addEventListener("mouseout", (event) => {
    if (!priceAt(event)) return;
    hideTip();
    if (document.activeElement && document.activeElement.matches(".price")) showTip(document.activeElement);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hideTip();
    const at = priceAt(event);
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!at || !step) return undefined;
    event.preventDefault();
    const cell = at.closest("td"), row = cell.parentElement;
    let next = null;
    if (step[0]) {
      for (let one = cell; (one = step[0] > 0 ? one.nextElementSibling : one.previousElementSibling) && !next;) next = one.querySelector(".price");
    } else {
      for (let one = row; (one = step[1] > 0 ? one.nextElementSibling : one.previousElementSibling) && !next;) {
        next = one.children[cell.cellIndex] ? one.children[cell.cellIndex].querySelector(".price") : null;
      }
    }
    if (next) next.focus();
    return undefined;
  });
  document.addEventListener("click", (event) => {
    const at = event.target.closest("button");
    if (!at) return undefined;
    if (at.matches(".price")) return copy(at.dataset.exact);
    if (at.dataset.row) return copy(copyRow(visible[Number(at.dataset.row)]));
    if (at.dataset.language) return set({ lang: at.dataset.language });
    if (at.dataset.sort) {
      const same = state.sort === at.dataset.sort;
      return set(same && state.dir ? { sort: "", dir: "" } : { sort: at.dataset.sort, dir: same ? "desc" : "" });
    }
    if (at.id === "topup") return set({ view: state.view === "topup" ? "nominal" : "topup" });
    if (at.id === "copy-link") return copy(location.href.split("#")[0] + address());
    if (at.id === "reset") return set({ ...DEFAULTS, lang: state.lang });
    return undefined;
  });
  for (const id of ["controls", "calc"]) byId(id).addEventListener("submit", (event) => event.preventDefault());
  const bound = { group: "group", tier: "tier", window: "window", "calc-model": "model", "calc-tier": "mtier" };
  for (const [id, key] of Object.entries(bound)) byId(id).addEventListener("change", () => set({ [key]: byId(id).value }));
  byId("unusable").addEventListener("change", () => set({ unusable: byId("unusable").checked ? "1" : "" }));
  document.addEventListener("change", (event) => {
    if (event.target.name === "unit" || event.target.name === "channel") set({ [event.target.name]: event.target.value });
  });
  const typed = { search: "q", "calc-input": "input", "calc-cached": "cached", "calc-output": "output", "calc-searches": "searches" };
  for (const [id, key] of Object.entries(typed)) byId(id).addEventListener("input", () => set({ [key]: byId(id).value }));
  addEventListener("hashchange", () => { readAddress(); render(); });
}

document.documentElement.classList.add("js");
readAddress();
listen();
render();
