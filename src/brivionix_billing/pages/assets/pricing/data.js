// The data of the view, and the prices that follow from it. All arithmetic is exact; rounding happens once, for display.
const { list, windows: WINDOWS_OF, changes: CHANGES, free_groups: FREE_GROUPS, messages: MESSAGES, formats: FORMATS, initial: INITIAL } = DATA;
const MAIN_METERS = ["input", "cache_read", "output"];
const byName = (items) => Object.fromEntries(items.map((item) => [item.name, item]));
const METERS_BY_NAME = byName(list.meters), MODELS = byName(list.models), CHANNELS_BY_NAME = byName(list.channels);
const labelsByLanguage = (items) => Object.fromEntries(Object.keys(MESSAGES).map((lang) =>
  [lang, Object.fromEntries(items.map((item) => [item.name, item.label[lang]]))]));
const METER_LABELS = labelsByLanguage(list.meters), TIER_LABELS = labelsByLanguage(list.service_tiers);
const CHANNELS = list.channels.filter((channel) => channel.price_per_credit !== null);
const isTokenMeter = (meter) => METERS_BY_NAME[meter] !== undefined && METERS_BY_NAME[meter].unit === "token";

// The rows of a group: the facts and list prices of the row, with the ratio or the prices of this group.
const rowsByGroup = new Map();
function groupRows(group) {
  if (!rowsByGroup.has(group.name)) {
    rowsByGroup.set(group.name, group.rows.map(([index, terms]) => {
      const row = { context: "any", above: null, ...list.rows[index], ratio: group.ratio, ...terms };
      if (!row.nominal && row.ratio === "1") row.nominal = row.base;
      return row;
    }));
  }
  return rowsByGroup.get(group.name);
}
// The models of a group in the order of the file, each with its rows.
const modelsByGroup = new Map();
function groupModels(group) {
  if (!modelsByGroup.has(group.name)) {
    const models = new Map();
    for (const row of groupRows(group)) {
      if (!models.has(row.model)) models.set(row.model, []);
      models.get(row.model).push(row);
    }
    modelsByGroup.set(group.name, models);
  }
  return modelsByGroup.get(group.name);
}
const multiplyTexts = (a, b) => Decimals.format(Decimals.multiply(Decimals.parse(a), Decimals.parse(b)));
function nominalPrices(row) {
  if (!row.nominal) {
    row.nominal = Object.fromEntries(Object.entries(row.base).map(([meter, price]) => [meter, multiplyTexts(price, row.ratio)]));
  }
  return row.nominal;
}
// What an amount of nominal quota costs through a channel.
function throughChannel(nominal, channel) {
  const credits = Decimals.divideExactly(Decimals.parse(nominal), Decimals.parse(list.nominal_per_credit));
  return Decimals.format(Decimals.multiply(credits, Decimals.parse(channel.price_per_credit)));
}
// The same rule as round_for_display() in formatting.py: half up, to significant digits, but at least the minor unit.
function roundForDisplay(text, currency) {
  const { coefficient, places } = Decimals.parse(text);
  const kept = Math.max(list.shown_digits - (String(coefficient).length - places), currentFormat().minor_digits[currency]);
  if (places <= kept) return text;
  const divisor = 10n ** BigInt(places - kept);
  return Decimals.format({ coefficient: (2n * coefficient + divisor) / (2n * divisor), places: kept });
}
// The usual price of a model in a tier: for any number of input tokens, or for the lowest range.
const isUsual = (row) => !row.conditions && (row.context === "any" || row.context === "short");
const usualRow = (rows, tier) => rows.find((row) => row.service_tier === tier && isUsual(row)) || rows.find((row) => row.service_tier === tier);
