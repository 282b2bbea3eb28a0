// The pricing page: what it holds, what is looked at, words and figures.
const { list, words: WORDS, formats: FORMATS, start } =
  JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const PER = Object.fromEntries(list.meters.map((meter) => [meter.name, meter.per]));
const labels = (items) => Object.fromEntries(Object.keys(WORDS).map((lang) =>
  [lang, Object.fromEntries(items.map((item) => [item.name, item.label[lang]]))]));
const METERS = labels(list.meters), TIERS = labels(list.service_tiers);
for (const lang of Object.keys(METERS)) METERS[lang] = { ...start.meters[lang], ...METERS[lang] };
const PRICED = list.groups.flatMap((group) => group.prices);
const SOLD = list.service_tiers.map((tier) => tier.name).filter((tier) => PRICED.some((row) => row.service_tier === tier));
const WINDOWS = [...new Set(list.models.map((model) => model.context.window))].sort((a, b) => a - b);
const costs = (meter, tokens) => (PRICED.some((row) => meter in row.nominal) ? tokens : "0");
const isTokens = (meter) => PER[meter] === 1000000;
const MODELS = Object.fromEntries(list.models.map((model) => [model.name, model]));
const CHANNELS = list.channels.filter((channel) => channel.price_per_credit !== null);
const MOST = 10n ** 12n;

// ---- what is looked at; all of it can stand in the address
const DEFAULTS = {
  lang: start.language, group: start.group, view: "nominal", channel: CHANNELS.length ? CHANNELS[0].name : "",
  unit: "1m", tier: start.tier, window: "0", q: "", unusable: "", sort: "", dir: "",
  model: "", mtier: "", input: "12000", cached: costs("cache_read", "10000"), output: costs("output", "800"), searches: "0",
};
const POSSIBLE = {
  lang: Object.keys(WORDS), group: list.groups.map((group) => group.name), view: ["nominal", "topup"],
  channel: CHANNELS.map((channel) => channel.name), unit: ["1m", "1k"], tier: ["every", ...SOLD],
  window: ["0", ...WINDOWS.slice(1).map(String)], model: list.models.map((model) => model.name), mtier: SOLD,
  unusable: ["", "1"], sort: ["", "model", ...list.meters.map((meter) => meter.name)], dir: ["", "desc"],
};
let state = { ...DEFAULTS };
let unknown = []; // what the address named, and is not here

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  state = { ...DEFAULTS };
  unknown = [];
  for (const [key, value] of given) {
    if (!Object.hasOwn(DEFAULTS, key) || value.length > 128) continue;
    if (!POSSIBLE[key] || POSSIBLE[key].includes(value)) state[key] = value;
    else unknown.push(value.slice(0, 40));
  }
  if (state.view === "topup" && !CHANNELS.length) state.view = "nominal";
}
// An address that is shared names what may be another default when the page is published again.
function address(always = []) {
  const out = new URLSearchParams();
  for (const key of Object.keys(DEFAULTS)) if (state[key] !== DEFAULTS[key] || always.includes(key)) out.set(key, state[key]);
  return "#" + out;
}
function set(changes, show = render) {
  Object.assign(state, changes);
  try { history.replaceState(null, "", address()); } catch { /* some browsers forbid it for files; the view still works */ }
  show();
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
const isFree = (text) => /^[0.]+$/.test(text);
const exactly = (text, currency) => (isFree(text) ? say("free") : money(text, currency));
const shown = (text, currency) => exactly((list.shown[currency] || {})[text] || text, currency);
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
