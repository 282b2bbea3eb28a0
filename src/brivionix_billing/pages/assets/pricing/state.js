// The state of the view, messages, formats, and elements.
const byId = (id) => ROOT.getElementById(id);
const LISTED_ROWS = list.rows;
const SOLD_TIERS = list.service_tiers.map((tier) => tier.name).filter((tier) => list.groups.some((group) => groupRows(group).some((row) => row.service_tier === tier)));
const SOLD_METERS = list.meters.map((meter) => meter.name).filter((meter) => LISTED_ROWS.some((row) => meter in row.base) || list.groups.some((group) => groupRows(group).some((row) => row.nominal && meter in row.nominal)));
const WINDOWS = [...new Set(list.models.map((model) => model.context.window).filter((tokens) => tokens !== null))].sort((a, b) => a - b);
const MAX_COUNT = 10n ** 12n;

// ---- the state of the view; location.hash can hold all of it
const DEFAULTS = {
  lang: INITIAL.language, group: INITIAL.group, compare: "", view: "nominal", channel: CHANNELS.length ? CHANNELS[0].name : "",
  unit: "1m", tier: INITIAL.tier, window: "0", q: "", unusable: "", sort: "", dir: "",
  model: "", mtier: "", conditions: "", calls: "1",
};
const DEFAULT_COUNTS = { input: "12000", cache_read: "10000", output: "800" };
const COUNT_PREFIX = "n."; // quantities of the calculator, by meter
const ALLOWED_VALUES = {
  lang: Object.keys(MESSAGES), group: list.groups.map((group) => group.name), compare: ["", ...SOLD_METERS], view: ["nominal", "topup"],
  channel: CHANNELS.map((channel) => channel.name), unit: ["1m", "1k"], tier: SOLD_TIERS,
  window: ["0", ...WINDOWS.slice(1).map(String)], model: list.models.map((model) => model.name), mtier: SOLD_TIERS,
  unusable: ["", "1"], sort: ["", "model", ...SOLD_METERS], dir: ["", "desc"],
};
let state = { ...DEFAULTS }, counts = {};
let unknownValues = []; // values in location.hash that this page does not have

function readState(parameters) {
  state = { ...DEFAULTS };
  counts = {};
  unknownValues = [];
  for (const [key, value] of parameters) {
    const meter = key.startsWith(COUNT_PREFIX) ? key.slice(COUNT_PREFIX.length) : "";
    if (value.length > 128) continue;
    if (meter && Object.hasOwn(METERS_BY_NAME, meter)) counts[meter] = value;
    if (!Object.hasOwn(DEFAULTS, key)) continue;
    if (!ALLOWED_VALUES[key] || ALLOWED_VALUES[key].includes(value)) state[key] = value;
    else unknownValues.push(value.slice(0, 40));
  }
  if (state.view === "topup" && !CHANNELS.length) state.view = "nominal";
}
const stateFromHash = () => readState(new URLSearchParams(EMBEDDED ? "" : location.hash.slice(1)));
// A shared link includes `required` keys even at their defaults, because a later page may have other defaults.
function stateToHash(required = []) {
  const parameters = new URLSearchParams();
  for (const key of Object.keys(DEFAULTS)) if (state[key] !== DEFAULTS[key] || required.includes(key)) parameters.set(key, state[key]);
  for (const [meter, text] of Object.entries(counts)) if (text !== (DEFAULT_COUNTS[meter] || "0")) parameters.set(COUNT_PREFIX + meter, text);
  return "#" + parameters;
}
function showState(renderView) {
  if (!EMBEDDED) try { history.replaceState(null, "", stateToHash()); } catch { /* some browsers forbid it for local files; the view still works */ }
  renderView();
}
function updateState(changes, renderView = render) {
  Object.assign(state, changes);
  showState(renderView);
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
const displayPrice = (text, currency) => exactPrice(roundForDisplay(text, currency), currency);
const pickDescription = (texts) => (texts && (texts[state.lang] || texts[""] || Object.values(texts)[0])) || "";
const tokenUnitLabel = () => translate(state.unit === "1m" ? "per_m_tokens" : "per_k_tokens");
const unitLabel = (meter) =>
  (isTokenMeter(meter) ? tokenUnitLabel() : METERS_BY_NAME[meter].per_label[state.lang]);
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
function viewPrice(row, meter) {
  const nominal = nominalPrices(row)[meter];
  return nominal === undefined || state.view === "nominal" ? nominal : throughChannel(nominal, currentChannel());
}

// ---- elements; text is always set as text, never parsed as markup
function createElement(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const key in attributes) if (attributes[key] !== undefined) element.setAttribute(key, attributes[key]);
  element.append(...children);
  return element;
}
const createNote = (text) => createElement("span", { class: "small muted" }, text);

function fillSelect(select, options, selected) {
  select.replaceChildren(...options.map(([value, text]) => createElement("option", { value }, text)));
  select.value = selected;
}
