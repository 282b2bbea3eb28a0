// What a row of the table expands to: facts of the model, its other prices, and its prices in other tiers and cases.
function factsOf(model) {
  return [
    ...["window", "max_input", "max_output"].filter((name) => model.context[name] !== null)
      .map((name) => translate(name, { tokens: formatNumber(model.context[name]) })),
    model.released ? translate("released", { date: model.released }) : "",
    model.aliases ? translate("also", { names: model.aliases.join(translate("list_separator")) }) : "",
  ].filter(Boolean);
}
const copyRowButton = (row) => createElement("button", {
  type: "button", class: "copy screen", "data-row": groupRows(currentGroup()).indexOf(row), tabindex: "-1",
  "aria-label": translate("copy_row_of", { model: rowName(row) }),
}, translate("copy_row"));
const rowName = (row) => [row.model, TIER_LABELS[state.lang][row.service_tier], contextNote(row), ...conditionNotes(row)].filter(Boolean).join(translate("list_separator"));

function renderFacts(row, base, rows) {
  const model = MODELS[row.model];
  const cell = createElement("td", { role: "cell", class: "facts", colspan: visibleColumns.length + 1 });
  const texts = [pickDescription(model.description), factsOf(model).join(" · "), ...rows.slice(0, 1).flatMap(exchangeNote)].filter(Boolean);
  cell.append(...texts.map((text) => createElement("p", { class: "small" }, text)));
  if (base && otherMeters(base).length && visibleColumns.some((meter) => meter in nominalPrices(base))) cell.append(renderOtherPrices(base));
  cell.append(createElement("p", { class: "buttons screen" },
    createElement("button", { type: "button", class: "copy", "data-copy": row.model, tabindex: "-1" }, translate("copy_name")), ...(base ? [copyRowButton(base)] : [])));
  return createElement("tr", { role: "row", class: "detail" }, cell);
}
function renderVariant(row, base, varying) {
  const sameTier = base && row.service_tier === base.service_tier;
  const label = [sameTier ? "" : TIER_LABELS[state.lang][row.service_tier], contextNote(row), ...conditionNotes(row)].filter(Boolean);
  const notes = [...(base && base.minimum === row.minimum ? [] : minimumNote(row)), base && base.ratio === row.ratio ? "" : termsNote(row)].filter(Boolean);
  const head = createElement("th", { role: "rowheader", scope: "row", class: "first" },
    createElement("span", { class: "variant" }, label.join(" · ") || TIER_LABELS[state.lang][row.service_tier]), copyRowButton(row), ...notes.map(createNote));
  const window = row.conditions && row.conditions.window && windowText(row.conditions.window);
  if (window) head.append(createNote(window));
  const cells = renderPriceCells(row, visibleColumns);
  const others = [...new Set([...otherMeters(row), ...(base ? otherMeters(base) : [])])].filter((meter) => !base || varying.has(meter));
  if (cells.length === visibleColumns.length && others.length) {
    cells.push(createElement("td", { role: "cell", class: "facts", colspan: visibleColumns.length + 1 }, renderOtherPrices(row, others)));
  }
  return createElement("tr", { role: "row", class: "detail" }, head, ...cells);
}
function renderDetails(row) {
  const rows = groupModels(currentGroup()).get(row.model) || [], base = row.unavailable ? undefined : row;
  const isSameTier = (other) => Number(base !== undefined && other.service_tier === base.service_tier);
  const variants = rows.filter((other) => other !== base).sort((a, b) => isSameTier(b) - isSameTier(a));
  // A price that is the same in all cases is listed once, with the usual prices.
  const meters = base ? rows.flatMap((each) => Object.keys(nominalPrices(each))) : [];
  const varying = new Set(meters.filter((meter) => rows.some((each) => nominalPrices(each)[meter] !== nominalPrices(base)[meter])));
  return [renderFacts(row, base, rows), ...variants.map((other) => renderVariant(other, base, varying))];
}
function toggleDetails(button) {
  const row = button.closest("tr"), { model } = button.dataset, isOpen = openModels.delete(model);
  button.setAttribute("aria-expanded", String(!isOpen));
  if (isOpen) {
    while (row.nextElementSibling && row.nextElementSibling.matches(".detail")) row.nextElementSibling.remove();
  } else {
    openModels.add(model);
    row.after(...renderDetails(visibleRows.find((each) => each.model === model)));
  }
}
