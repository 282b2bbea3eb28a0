// The price table: filters and sorts rows, and renders them.
function filterRows(group) {
  const query = state.q.trim().toLowerCase();
  const matches = (name) => {
    const model = MODELS[name];
    return (model.context.window || 0) >= Number(byId("window").value) &&
      [name, ...model.aliases, displayName(model), pickDescription(model.description)].join("\n").toLowerCase().includes(query);
  };
  const tier = state.tier === "every" ? null : state.tier;
  const sold = group.prices.filter((row) => matches(row.model) && (!tier || row.service_tier === tier));
  const soldModels = new Set(sold.map((row) => row.model));
  const unavailable = group.models.filter((name) => matches(name) && !soldModels.has(name)).map((model) => ({ model, unavailable: "not_sold" }));
  if (state.unusable) unavailable.push(...group.not_allowed.filter(matches).map((model) => ({ model, unavailable: "not_in_group" })));
  return [...sortRows(sold), ...unavailable];
}
function sortRows(rows) {
  const direction = state.dir ? -1 : 1;
  if (state.sort === "model") return [...rows].sort((a, b) => direction * (a.model < b.model ? -1 : a.model > b.model ? 1 : 0));
  if (!state.sort) return rows;
  const priced = [], unpriced = [];
  for (const row of rows) {
    const price = viewPrices(row)[state.sort];
    if (price === undefined) unpriced.push(row); else priced.push([Decimals.parse(price), row]);
  }
  priced.sort((a, b) => direction * Decimals.compare(a[0], b[0]));
  return [...priced.map(([, row]) => row), ...unpriced];
}
const displayName = (model) => [pickDescription(model.vendor), pickDescription(model.display_name)].filter(Boolean).join(" ");
const contextNote = ({ input_tokens: bounds }) => (bounds ? translate("range_tokens", { range: rangeText(bounds) }) : "");
const conditionNotes = ({ conditions = {} }) =>
  Object.entries(conditions).map(([dimension, name]) => translate("in_" + dimension, { name: named(dimension, name) }));
function minimumNote({ minimum, minimum_topup: topup }) {
  const price = state.view === "topup" ? (topup || {})[state.channel] : minimum;
  return price ? [translate("at_minimum", { price: formatMoney(price, currentCurrency()) })] : [];
}
const exchangeNote = ({ list: listed }) => (listed
  ? [translate("exchange", { listed: listed.currency, rate: formatNumber(listed.exchange_rate), currency: list.currency })] : []);
function termsNote(row) {
  if (row.ratio === null) return translate("own_price");
  return row.ratio === currentGroup().ratio ? "" : translate("ratio", { ratio: formatNumber(row.ratio) });
}
function renderHeader(columns) {
  const headerCell = (key, label, unit) => {
    const ascending = state.sort === key && !state.dir, descending = state.sort === key && state.dir;
    const button = createElement("button", { type: "button", class: "sort", "data-sort": key, title: translate("sort_by", { column: label }) }, label);
    const cell = createElement("th", {
      role: "columnheader", scope: "col", class: unit ? "figure" : undefined,
      "aria-sort": ascending ? "ascending" : descending ? "descending" : undefined,
    }, button);
    if (unit) cell.append(createElement("span", { class: "per" }, unit));
    return cell;
  };
  return createElement("thead", { role: "rowgroup", class: "sorts" }, createElement("tr", { role: "row", "data-label": translate("sort") },
    headerCell("model", translate("model"), ""),
    ...columns.map((meter) => headerCell(meter, METER_LABELS[state.lang][meter], unitLabel(meter))),
    createElement("th", { role: "columnheader", scope: "col", class: "screen" }, createElement("span", { class: "unseen" }, translate("copy_row"))),
  ));
}
function renderPrice(exact, currency, meter) {
  const value = scaleToUnit(exact, meter);
  return createElement("button", { type: "button", class: "price", tabindex: "-1", "data-exact": value, "data-currency": currency, "data-meter": meter },
    displayPrice(value, currency));
}
function renderRow(row, columns, currency, index, isFirst) {
  const model = MODELS[row.model];
  const head = createElement("th", { role: "rowheader", scope: "row" }, createElement("span", { class: "name" }, row.model));
  if (row.service_tier) head.append(" ", createElement("span", { class: "badge" }, TIER_LABELS[state.lang][row.service_tier]));
  const terms = row.unavailable ? [] : [termsNote(row), contextNote(row), ...conditionNotes(row), ...minimumNote(row), ...exchangeNote(row)];
  const sizes = (isFirst ? ["window", "max_input", "max_output"] : ["window"]).filter((name) => model.context[name] !== null)
    .map((name) => translate(name, { tokens: formatNumber(model.context[name]) }));
  const notes = [isFirst ? displayName(model) : "", ...terms, ...sizes].filter(Boolean);
  head.append(createNote(notes.join(" · ")));
  if (isFirst && pickDescription(model.description)) head.append(createNote(pickDescription(model.description)));
  const facts = !isFirst ? [] : [
    model.released === null ? "" : translate("released", { date: model.released }),
    model.aliases.length ? translate("also", { names: model.aliases.join(translate("list_separator")) }) : "",
  ].filter(Boolean);
  if (facts.length) head.append(createNote(facts.join(" · ")));
  if (row.unavailable) {
    return createElement("tr", { role: "row", class: "off" }, head,
      createElement("td", { role: "cell", colspan: columns.length + 1 }, translate(row.unavailable)));
  }
  const prices = viewPrices(row);
  const cells = columns.map((meter) => {
    const price = prices[meter];
    const label = METER_LABELS[state.lang][meter] + " " + unitLabel(meter);
    if (price === undefined) return createElement("td", { role: "cell", class: "figure empty" }, createElement("span", { class: "unseen" }, translate("no_price")));
    const value = createElement("div", {}, renderPrice(price, currency, meter));
    const discount = row.cache_discount[meter];
    if (discount) value.append(createNote(translate("off", { percent: formatPercent(discount) })));
    const listed = row.list && state.view === "nominal" ? row.list.prices[meter] : undefined;
    if (listed !== undefined) value.append(createNote(translate("listed", { price: formatMoney(scaleToUnit(listed, meter), row.list.currency) })));
    return createElement("td", { role: "cell", class: "figure", "data-label": label }, value);
  });
  const name = [row.model, TIER_LABELS[state.lang][row.service_tier], contextNote(row), ...conditionNotes(row)].filter(Boolean).join(translate("list_separator"));
  const copyButton = createElement("button", { type: "button", "data-row": index, tabindex: "-1", "aria-label": translate("copy_row_of", { model: name }) }, translate("copy_row"));
  return createElement("tr", { role: "row", class: row.above !== null && row.context !== "short" ? "long" : undefined }, head, ...cells, createElement("td", { role: "cell", class: "actions screen" }, copyButton));
}
let visibleRows = [];
const pricedMeters = (group) => list.meters.map((meter) => meter.name).filter((meter) => group.prices.some((row) => meter in row.nominal));

function renderTable() {
  const group = currentGroup(), columns = pricedMeters(group), currency = currentCurrency();
  const heading = translate("prices_of", { group: named("group", group.name) });
  byId("prices-heading").textContent = heading;
  const ratio = FREE_GROUPS.includes(group.name) ? translate("ratio_free") : translate("ratio", { ratio: formatNumber(group.ratio) });
  byId("about").textContent = [pickDescription(group.description), ratio].filter(Boolean).join(" · ");
  byId("view").textContent = state.view === "topup"
    ? translate("about_topup", { channel: named("channel", state.channel), price: formatMoney(currentChannel().price_per_credit, currency) }) +
      (currentChannel().volume_discount ? translate("sentence_separator") + translate("about_volume") : "")
    : translate("about_nominal", { currency });
  visibleRows = filterRows(group);
  const count = new Set(visibleRows.map((row) => row.model)).size;
  const filters = [state.tier === "every" ? "" : TIER_LABELS[state.lang][state.tier], state.q.trim()].filter(Boolean);
  byId("count").textContent = [translate(count === 1 ? "count_one" : "count", { n: formatNumber(count) }), ...filters].join(" · ");
  const body = createElement("tbody", { role: "rowgroup" });
  const describedModels = new Set();
  for (const [index, row] of visibleRows.entries()) {
    body.append(renderRow(row, columns, currency, index, !describedModels.has(row.model)));
    describedModels.add(row.model);
  }
  if (!count) body.append(createElement("tr", { role: "row" }, createElement("td", { role: "cell", class: "none", colspan: columns.length + 2 }, translate("none"))));
  const table = createElement("table", { class: "prices cards rows" + (visibleRows.length > 60 ? " many" : ""), role: "table" },
    createElement("caption", { class: "unseen" }, heading), renderHeader(columns), body);
  table.style.setProperty("--columns", columns.length);
  const firstStop = body.querySelector(FOCUSABLE);
  if (firstStop) firstStop.tabIndex = 0; // the table is one tab stop; arrow keys move inside it
  byId("table").replaceChildren(createElement("div", { class: "scroll", role: "group", "aria-label": heading, tabindex: "0" }, table));
}
