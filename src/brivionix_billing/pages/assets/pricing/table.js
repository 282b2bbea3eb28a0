// The price table: which rows, in which order, with which figures.
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
  return element("thead", { role: "rowgroup", class: "sorts" }, element("tr", { role: "row", "data-label": say("sort") },
    cell("model", say("model"), ""),
    ...columns.map((meter) => cell(meter, METERS[state.lang][meter], unitOf(meter))),
    element("th", { role: "columnheader", scope: "col", class: "screen" }, element("span", { class: "unseen" }, say("copy_row"))),
  ));
}
function priceButton(exact, currency, meter) {
  const value = inUnit(exact, meter);
  return element("button", { type: "button", class: "price", tabindex: "-1", "data-exact": value, "data-currency": currency, "data-meter": meter },
    shown(value, currency));
}
function tableRow(row, columns, currency, index, first) {
  const model = MODELS[row.model];
  const head = element("th", { role: "rowheader", scope: "row" }, element("span", { class: "name" }, row.model));
  if (row.service_tier) head.append(" ", element("span", { class: "badge" }, TIERS[state.lang][row.service_tier]));
  const notes = [row.off ? "" : termsNote(row), row.off ? "" : contextNote(row), say("window", { tokens: number(model.context.window) })].filter(Boolean);
  head.append(small(notes.join(" · ")));
  if (first && described(model.description)) head.append(small(described(model.description)));
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
  const name = [row.model, TIERS[state.lang][row.service_tier], contextNote(row)].filter(Boolean).join(", ");
  const copy = element("button", { type: "button", "data-row": index, tabindex: "-1", "aria-label": say("copy_row_of", { model: name }) }, say("copy_row"));
  return element("tr", { role: "row", class: row.context === "long" ? "long" : undefined }, head, ...cells, element("td", { role: "cell", class: "actions screen" }, copy));
}
let visible = [];
const columnsOf = (group) => list.meters.map((meter) => meter.name).filter((meter) => group.prices.some((row) => meter in row.nominal));

function renderTable() {
  const group = theGroup(), columns = columnsOf(group), currency = currencyOf();
  const heading = say("prices_of", { group: group.name });
  byId("prices-heading").textContent = heading;
  const free = group.prices.length && group.prices.every((row) => Object.values(row.nominal).every(isFree));
  const ratio = free ? say("ratio_free") : say("ratio", { ratio: number(group.ratio) });
  byId("about").textContent = [described(group.description), ratio].filter(Boolean).join(" · ");
  byId("view").textContent = state.view === "topup"
    ? say("about_topup", { channel: state.channel, price: money(theChannel().price_per_credit, currency) }) +
      (theChannel().volume_discount ? " " + say("about_volume") : "")
    : say("about_nominal", { currency });
  visible = rowsOf(group);
  const count = new Set(visible.map((row) => row.model)).size;
  const filters = [state.tier === "every" ? "" : TIERS[state.lang][state.tier], state.q.trim()].filter(Boolean);
  byId("count").textContent = [say(count === 1 ? "count_one" : "count", { n: number(count) }), ...filters].join(" · ");
  const body = element("tbody", { role: "rowgroup" });
  const seen = new Set();
  body.append(...visible.map((row, index) => tableRow(row, columns, currency, index, !seen.has(row.model) && seen.add(row.model))));
  if (!count) body.append(element("tr", { role: "row" }, element("td", { role: "cell", class: "none", colspan: columns.length + 2 }, say("none"))));
  const table = element("table", { class: "prices cards rows" + (visible.length > 60 ? " many" : ""), role: "table" },
    element("caption", { class: "unseen" }, heading), header(columns), body);
  table.style.setProperty("--columns", columns.length);
  const stop = body.querySelector(".price, [data-row]");
  if (stop) stop.tabIndex = 0; // one stop for the Tab key; arrows go on from there
  byId("table").replaceChildren(element("div", { class: "scroll", role: "group", "aria-label": heading, tabindex: "0" }, table));
}
