// Groups side by side: the price of one meter, models by groups.
const groupPrice = (rows, meter) => { const row = rows && usualRow(rows, state.tier); return row && meter in nominalPrices(row) ? row : undefined; };
function comparedRows(meter) {
  const found = list.models.filter((model) => matchesFilters(model.name)).map((model) => ({
    model: model.name, cells: list.groups.map((group) => groupPrice(groupModels(group).get(model.name), meter)),
  }));
  return found.filter(({ cells }) => cells.some(Boolean));
}
// A long name is cut, because it would move the prices off the screen. The title has all of it.
const groupHead = (name) => createElement("span", { class: "cut", title: named("group", name) }, named("group", name));
function renderComparison(heading) {
  const meter = state.compare;
  visibleRows = comparedRows(meter);
  visibleColumns = [meter];
  const listed = ({ cells }) => cells.find((row) => row && row.base[meter] !== undefined);
  const withList = state.view === "nominal" || currentCurrency() === list.currency;
  const scaled = (price) => (price === undefined ? undefined : scaleToUnit(price, meter));
  const columns = [...(withList ? [-1] : []), ...list.groups.keys()];
  const cellPrice = ({ cells }, index) => (index < 0 ? (listed({ cells }) || { base: {} }).base[meter] : cells[index] && viewPrice(cells[index], meter));
  const places = alignDecimals(visibleRows, columns, (row, index) => scaled(cellPrice(row, index)));
  const head = createElement("thead", { role: "rowgroup" }, createElement("tr", { role: "row" },
    createElement("th", { role: "columnheader", scope: "col", class: "first" }, translate("model")),
    ...columns.map((index) => createElement("th", { role: "columnheader", scope: "col", class: "figure" },
      ...(index < 0 ? [translate("list_price")] : [groupHead(list.groups[index].name), createNote(groupDiscount(list.groups[index]))])))));
  const body = createElement("tbody", { role: "rowgroup" }, ...visibleRows.map((row) => createElement("tr", { role: "row" },
    createElement("th", { role: "rowheader", scope: "row", class: "first" }, createElement("span", { class: "name" }, row.model)),
    ...columns.map((index, place) => {
      const price = cellPrice(row, index);
      return price === undefined ? createElement("td", { role: "cell", class: "figure none" }, "–")
        : createElement("td", { role: "cell", class: "figure" }, renderPrice(price, currentCurrency(), meter, places[place]));
    }))));
  if (!visibleRows.length) body.append(createElement("tr", { role: "row" }, createElement("td", { role: "cell", class: "nothing", colspan: columns.length + 1 }, translate("none"))));
  const table = createElement("table", { class: "prices compared", role: "table" }, createElement("caption", { class: "unseen" }, heading), head, body);
  table.style.setProperty("--columns", columns.length);
  return table;
}
