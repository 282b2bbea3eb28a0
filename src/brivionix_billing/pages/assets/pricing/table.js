// The price table of a group: one row per model, in the selected tier. details.js adds the other prices of a model.
const displayName = (model) => [pickDescription(model.vendor), pickDescription(model.display_name)].filter(Boolean).join(" ");
const contextNote = ({ input_tokens: bounds }) => (bounds ? translate("range_tokens", { range: rangeText(bounds) }) : "");
const conditionNotes = ({ conditions = {} }) =>
  Object.entries(conditions).map(([dimension, name]) => translate("in_" + dimension, { name: named(dimension, name) }));
function minimumNote({ minimum }) {
  if (minimum === undefined) return [];
  const price = state.view === "topup" ? throughChannel(minimum, currentChannel()) : minimum;
  return [translate("at_minimum", { price: formatMoney(price, currentCurrency()) })];
}
const exchangeNote = ({ list: listed }) => (listed
  ? [translate("exchange", { listed: listed.currency, rate: formatNumber(listed.exchange_rate), currency: list.currency })] : []);
const matchesFilters = (name) => {
  const model = MODELS[name], query = state.q.trim().toLowerCase();
  return (state.window === "0" || (model.context.window || 0) >= Number(state.window)) &&
    (!query || [name, ...(model.aliases || []), displayName(model), pickDescription(model.description)].join("\n").toLowerCase().includes(query));
};
// The rows of the table: the usual price of each model in the tier, then models without one.
function filterRows(group) {
  const sold = [], unavailable = [];
  for (const [model, rows] of groupModels(group)) {
    if (!matchesFilters(model)) continue;
    const row = usualRow(rows, state.tier);
    if (row) sold.push(row); else unavailable.push({ model, unavailable: "not_sold" });
  }
  if (state.unusable) unavailable.push(...group.not_allowed.filter(matchesFilters).map((model) => ({ model, unavailable: "not_in_group" })));
  return [...sortRows(sold), ...unavailable];
}
function sortRows(rows) {
  const direction = state.dir ? -1 : 1;
  if (state.sort === "model") return [...rows].sort((a, b) => direction * (a.model < b.model ? -1 : a.model > b.model ? 1 : 0));
  if (!state.sort) return rows;
  const priced = [], unpriced = [];
  for (const row of rows) {
    const price = nominalPrices(row)[state.sort]; // a channel multiplies all prices by the same factor
    if (price === undefined) unpriced.push(row); else priced.push([Decimals.parse(price), row]);
  }
  priced.sort((a, b) => direction * Decimals.compare(a[0], b[0]));
  return [...priced.map(([, row]) => row), ...unpriced];
}
const pricedMeters = (group) => list.meters.map((meter) => meter.name).filter((meter) => groupRows(group).some((row) => meter in nominalPrices(row)));
const mainColumns = (group) => {
  const priced = MAIN_METERS.filter((meter) => groupRows(group).some((row) => meter in (row.nominal || row.base)));
  return priced.length ? priced : pricedMeters(group).slice(0, 1);
};

function renderHeader(columns) {
  const headerCell = (key, label, numeric) => {
    const ascending = state.sort === key && !state.dir, descending = state.sort === key && state.dir;
    const button = createElement("button", { type: "button", class: "sort", "data-sort": key, title: translate("sort_by", { column: label }) }, label);
    return createElement("th", {
      role: "columnheader", scope: "col", class: numeric ? "figure" : "first",
      "aria-sort": ascending ? "ascending" : descending ? "descending" : undefined,
    }, button);
  };
  return createElement("thead", { role: "rowgroup" }, createElement("tr", { role: "row" },
    headerCell("model", translate("model"), false), ...columns.map((meter) => headerCell(meter, METER_LABELS[state.lang][meter], true))));
}
// Decimal points of a column are aligned: figures with fewer decimal places have space behind them.
const MAX_PADDING = 6;
// The decimal places of an exact price when it is displayed.
function shownPlaces(exact, currency) {
  const least = currentFormat().minor_digits[currency], digits = exact.indexOf(".") < 0 ? 0 : exact.length - exact.indexOf(".") - 1;
  return digits <= least ? least : Math.max(least, Decimals.parse(roundForDisplay(exact, currency)).places);
}
const paddingClass = (exact, currency, places) => {
  const padding = /^[0.]+$/.test(exact) ? 0 : Math.max(0, places - shownPlaces(exact, currency));
  return padding ? ` p${padding}` + (places > 4 ? " far" : "") : "";
};
function alignDecimals(rows, columns, cellPrice) {
  return columns.map((column) => {
    let most = 0;
    for (const row of rows) {
      const price = cellPrice(row, column);
      if (price !== undefined) most = Math.max(most, shownPlaces(price, currentCurrency()));
    }
    return Math.min(most, MAX_PADDING);
  });
}
function renderPrice(exact, currency, meter, places = 0) {
  const value = scaleToUnit(exact, meter), text = displayPrice(value, currency);
  return createElement("button", {
    type: "button", class: "price" + paddingClass(value, currency, places) + (text.length > 9 ? " long" : ""), tabindex: "-1", "data-exact": value, "data-currency": currency, "data-meter": meter,
  }, text);
}
function renderPriceCell(row, meter, places) {
  const price = viewPrice(row, meter);
  if (price === undefined) return createElement("td", { role: "cell", class: "figure none" }, "–");
  return createElement("td", { role: "cell", class: "figure" }, renderPrice(price, currentCurrency(), meter, places), ...listNote(row, meter, price, places));
}
const otherMeters = (row) => Object.keys(nominalPrices(row)).filter((meter) => !visibleColumns.includes(meter));
function renderOtherPrices(row, meters = otherMeters(row)) {
  return createElement("dl", { class: "others" }, ...meters.map((meter) => {
    const price = viewPrice(row, meter), label = createElement("dt", {}, METER_LABELS[state.lang][meter]);
    if (price === undefined) return createElement("div", {}, label, createElement("dd", { class: "none" }, "–"));
    return createElement("div", {}, label,
      createElement("dd", {}, renderPrice(price, currentCurrency(), meter), ...(isTokenMeter(meter) ? [] : [" ", createNote(unitLabel(meter))]),
        ...listNote(row, meter, price).flatMap((note) => [" ", note])));
  }));
}
// The cells of a row with the prices of the columns; the other prices take their place if there are none.
function renderPriceCells(row, columns) {
  if (columns.some((meter) => meter in nominalPrices(row))) return columns.map((meter, index) => renderPriceCell(row, meter, visiblePlaces[index]));
  return [createElement("td", { role: "cell", colspan: columns.length, class: "instead" }, renderOtherPrices(row))];
}
function renderRow(row, columns) {
  const model = MODELS[row.model], isOpen = openModels.has(row.model);
  const button = createElement("button", { type: "button", class: "expand", "aria-expanded": String(isOpen), "data-model": row.model, tabindex: "-1" },
    createElement("span", { class: "name" }, row.model));
  const head = createElement("th", { role: "rowheader", scope: "row", class: "first" }, button);
  const terms = row.unavailable ? [] : [termsNote(row), contextNote(row), ...conditionNotes(row), ...minimumNote(row)];
  const notes = [displayName(model), ...terms].filter(Boolean);
  if (notes.length) head.append(createNote(notes.join(" · ")));
  if (row.unavailable) {
    return createElement("tr", { role: "row", class: "off" }, head, createElement("td", { role: "cell", colspan: columns.length }, translate(row.unavailable)));
  }
  return createElement("tr", { role: "row" }, head, ...renderPriceCells(row, columns));
}

let visibleRows = [], visibleColumns = [], visiblePlaces = [];
const openModels = new Set();
const FIRST_ROWS = 40, MORE_ROWS = 120;
let renderedTable = 0;
// Renders the rows that fill a screen at once, and the others while the browser is idle.
function appendRows(body, rows, columns) {
  const current = ++renderedTable;
  const append = (from, count) => {
    if (current !== renderedTable) return;
    for (const row of rows.slice(from, from + count)) {
      body.append(renderRow(row, columns));
      if (openModels.has(row.model)) body.append(...renderDetails(row));
    }
    if (from + count < rows.length) setTimeout(() => append(from + count, MORE_ROWS));
  };
  append(0, FIRST_ROWS);
}
function renderGroupTable(group, heading) {
  visibleColumns = mainColumns(group);
  visibleRows = filterRows(group);
  // Details have the same columns.
  visiblePlaces = alignDecimals(groupRows(group), visibleColumns, (row, meter) => {
    const price = viewPrice(row, meter);
    return price === undefined ? undefined : scaleToUnit(price, meter);
  });
  const body = createElement("tbody", { role: "rowgroup" });
  const table = createElement("table", { class: `prices rows columns-${visibleColumns.length}` + (visibleRows.length > FIRST_ROWS ? " many" : ""), role: "table" },
    createElement("caption", { class: "unseen" }, heading), renderHeader(visibleColumns), body);
  if (visibleRows.length) appendRows(body, visibleRows, visibleColumns);
  else body.append(createElement("tr", { role: "row" }, createElement("td", { role: "cell", class: "nothing", colspan: visibleColumns.length + 1 }, translate("none"))));
  return table;
}
// The heading of a group leaves out that its prices are the list prices.
const discountOf = (group) => (group.ratio === "1" && state.view === "nominal" ? "" : groupDiscount(group));
function viewText() {
  if (state.view === "nominal") return translate("about_nominal");
  const text = translate("about_topup", { channel: named("channel", state.channel), price: formatMoney(currentChannel().price_per_credit, currentCurrency()) });
  return currentChannel().volume_discount ? text + translate("sentence_separator") + translate("about_volume") : text;
}
function renderTable() {
  const group = currentGroup();
  const heading = state.compare ? translate("prices_of_all", { meter: METER_LABELS[state.lang][state.compare] }) : translate("prices_of", { group: named("group", group.name) });
  byId("prices-heading").textContent = heading;
  byId("about").textContent = state.compare ? "" : [pickDescription(group.description), discountOf(group)].filter(Boolean).join(" · ");
  const table = state.compare ? renderComparison(heading) : renderGroupTable(group, heading);
  byId("unit").textContent = translate("stated_unit", { currency: currentCurrency(), unit: state.compare ? unitLabel(state.compare) : tokenUnitLabel() });
  byId("view").textContent = [viewText(), table.querySelector("s") ? translate("struck") : ""].filter(Boolean).join(translate("sentence_separator"));
  const filters = [state.tier === DEFAULTS.tier ? "" : TIER_LABELS[state.lang][state.tier], state.q.trim()].filter(Boolean);
  byId("count").textContent = [translate(visibleRows.length === 1 ? "count_one" : "count", { n: formatNumber(visibleRows.length) }), ...filters].join(" · ");
  const firstStop = table.querySelector(FOCUSABLE);
  if (firstStop) firstStop.tabIndex = 0; // the table is one tab stop; arrow keys move inside it
  byId("table").replaceChildren(state.compare ? createElement("div", { class: "scroll", role: "group", "aria-label": heading, tabindex: "0" }, table) : table);
}
