// The pricing page: its data, the state of the view, messages and formats.
const { list, changes: CHANGES, free_groups: FREE_GROUPS, messages: MESSAGES, formats: FORMATS, initial: INITIAL } =
  JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const METERS_BY_NAME = Object.fromEntries(list.meters.map((meter) => [meter.name, meter]));
const PER_LABELS = Object.fromEntries(list.meters.map((meter) => [meter.name, meter.per_label]));
const METER_UNITS = Object.fromEntries(list.meters.map((meter) => [meter.name, meter.per]));
const labelsByLanguage = (items) => Object.fromEntries(Object.keys(MESSAGES).map((lang) =>
  [lang, Object.fromEntries(items.map((item) => [item.name, item.label[lang]]))]));
const METER_LABELS = labelsByLanguage(list.meters), TIER_LABELS = labelsByLanguage(list.service_tiers);
for (const lang of Object.keys(METER_LABELS)) METER_LABELS[lang] = { ...INITIAL.meters[lang], ...METER_LABELS[lang] };
const ALL_ROWS = list.groups.flatMap((group) => group.prices);
const SOLD_TIERS = list.service_tiers.map((tier) => tier.name).filter((tier) => ALL_ROWS.some((row) => row.service_tier === tier));
const WINDOWS = [...new Set(list.models.map((model) => model.context.window).filter((tokens) => tokens !== null))].sort((a, b) => a - b);
const defaultCount = (meter, tokens) => (ALL_ROWS.some((row) => meter in row.nominal) ? tokens : "0");
const isTokenMeter = (meter) => METERS_BY_NAME[meter] !== undefined && METERS_BY_NAME[meter].unit === "token";
const MODELS = Object.fromEntries(list.models.map((model) => [model.name, model]));
const CHANNELS = list.channels.filter((channel) => channel.price_per_credit !== null);
const CHANNELS_BY_NAME = Object.fromEntries(list.channels.map((channel) => [channel.name, channel]));
const MAX_COUNT = 10n ** 12n;

// ---- the state of the view; location.hash can hold all of it
const DEFAULTS = {
  lang: INITIAL.language, group: INITIAL.group, view: "nominal", channel: CHANNELS.length ? CHANNELS[0].name : "",
  unit: "1m", tier: INITIAL.tier, window: "0", q: "", unusable: "", sort: "", dir: "",
  model: "", mtier: "", input: "12000", cached: defaultCount("cache_read", "10000"), output: defaultCount("output", "800"), searches: "0",
};
const ALLOWED_VALUES = {
  lang: Object.keys(MESSAGES), group: list.groups.map((group) => group.name), view: ["nominal", "topup"],
  channel: CHANNELS.map((channel) => channel.name), unit: ["1m", "1k"], tier: ["every", ...SOLD_TIERS],
  window: ["0", ...WINDOWS.slice(1).map(String)], model: list.models.map((model) => model.name), mtier: SOLD_TIERS,
  unusable: ["", "1"], sort: ["", "model", ...list.meters.map((meter) => meter.name)], dir: ["", "desc"],
};
let state = { ...DEFAULTS };
let unknownValues = []; // values in location.hash that this page does not have

function stateFromHash() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  state = { ...DEFAULTS };
  unknownValues = [];
  for (const [key, value] of parameters) {
    if (!Object.hasOwn(DEFAULTS, key) || value.length > 128) continue;
    if (!ALLOWED_VALUES[key] || ALLOWED_VALUES[key].includes(value)) state[key] = value;
    else unknownValues.push(value.slice(0, 40));
  }
  if (state.view === "topup" && !CHANNELS.length) state.view = "nominal";
}
// A shared link includes `required` keys even at their defaults, because a later page may have other defaults.
function stateToHash(required = []) {
  const parameters = new URLSearchParams();
  for (const key of Object.keys(DEFAULTS)) if (state[key] !== DEFAULTS[key] || required.includes(key)) parameters.set(key, state[key]);
  return "#" + parameters;
}
function updateState(changes, renderView = render) {
  Object.assign(state, changes);
  try { history.replaceState(null, "", stateToHash()); } catch { /* some browsers forbid it for local files; the view still works */ }
  renderView();
}

// ---- messages and formats
const translate = (key, values = {}) =>
  MESSAGES[state.lang][key].replace(/\{(\w+)\}/g, (placeholder, name) => (Object.hasOwn(values, name) ? values[name] : placeholder));
const currentFormat = () => FORMATS[state.lang];
const formatNumber = (text) => formatDigits(String(text), currentFormat());
// The replacement is a function, because "$" in a replacement text has a special meaning.
const formatMoney = (text, currency) =>
  currentFormat().money[currency].replace("#", () => formatDigits(text, currentFormat(), currentFormat().minor_digits[currency]));
const formatPercent = (text) => {
  const percent = Decimals.multiply(Decimals.parse(text), Decimals.parse("100"));
  return currentFormat().percent.replace("#", () => formatDigits(Decimals.format(percent), currentFormat()));
};
const scaleToUnit = (text, meter) =>
  (state.unit === "1m" || !isTokenMeter(meter) ? text : Decimals.format(Decimals.scaleDown(Decimals.parse(text), 3)));
const exactPrice = (text, currency) => (/^[0.]+$/.test(text) ? translate("free") : formatMoney(text, currency));
const displayPrice = (text, currency) => exactPrice((list.shown[currency] || {})[text] || text, currency);
const pickDescription = (texts) => texts[state.lang] || texts[""] || Object.values(texts)[0] || "";
const unitLabel = (meter) =>
  (isTokenMeter(meter) ? translate(state.unit === "1m" ? "per_m_tokens" : "per_k_tokens") : (PER_LABELS[meter] || {})[state.lang] || translate("per_calls"));
// A name with its label, such as "rmb (WeChat Pay)".
const LABELLED = { group: list.groups, channel: list.channels, region: list.regions, mode: list.modes, window: list.calendars };
function named(kind, name) {
  const item = LABELLED[kind].find((each) => each.name === name);
  const label = item ? pickDescription(item.display_name) : "";
  return label && label !== name ? translate("named", { name, label }) : name;
}
// The words of a range of input tokens; see `range_text` of the library.
const rangeText = (bounds) =>
  Object.entries(bounds).map(([key, tokens]) => translate("range_" + key, { tokens: formatNumber(tokens) })).join(translate("range_and"));
const currentGroup = () => list.groups.find((group) => group.name === state.group);
const currentChannel = () => CHANNELS.find((channel) => channel.name === state.channel);
const currentCurrency = () => (state.view === "topup" ? currentChannel().currency : list.currency);
const viewPrices = ({ nominal, topup }) => (state.view === "topup" ? topup[state.channel] || {} : nominal);

// ---- elements; text is always set as text, never parsed as markup
function createElement(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
const createNote = (text) => createElement("span", { class: "small muted" }, text);

function fillSelect(select, options, selected) {
  select.replaceChildren(...options.map(([value, text]) => createElement("option", { value }, text)));
  select.value = selected;
}
