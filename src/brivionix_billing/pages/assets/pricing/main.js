// Events, and the first rendering.
const FOCUSABLE = ".price, [data-row]";
const ARROW_STEPS = { // [columns, rows]
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-Infinity, 0], End: [Infinity, 0],
};
// The price or button that an arrow key leads to from a cell's price or button.
function findNeighbour(focused, [columns, rows]) {
  const cell = focused.closest("td"), row = cell.parentElement;
  if (columns) {
    const inRow = [...row.querySelectorAll(FOCUSABLE)];
    if (columns === Infinity) return inRow[inRow.length - 1];
    return columns === -Infinity ? inRow[0] : inRow[inRow.indexOf(focused) + columns];
  }
  for (let other = row; (other = rows > 0 ? other.nextElementSibling : other.previousElementSibling);) {
    const target = other.children[cell.cellIndex] ? other.children[cell.cellIndex].querySelector(FOCUSABLE) : null;
    if (target) return target;
  }
  return null;
}
function onClick(event) {
  const button = event.target.closest("button");
  if (!button) return undefined;
  const { exact, currency, row, language, sort } = button.dataset;
  if (button.matches(".price")) return copyText(exact, formatMoney(exact, currency));
  if (row) return copyText(rowAsTsv(visibleRows[Number(row)]));
  if (language) return updateState({ lang: language });
  if (sort) {
    const same = state.sort === sort;
    return updateState(same && state.dir ? { sort: "", dir: "" } : { sort, dir: same ? "desc" : "" });
  }
  if (button.id === "topup") return updateState({ view: state.view === "topup" ? "nominal" : "topup" });
  if (button.id === "copy-link") return copyText(location.href.split("#")[0] + stateToHash(["lang", "group", "view", "channel"]));
  if (button.id === "reset") return updateState({ ...DEFAULTS, lang: state.lang });
  return undefined;
}
function bindEvents() {
  document.addEventListener("focusin", (event) => {
    if (!event.target.matches(FOCUSABLE)) return;
    for (const element of document.querySelectorAll(`#table :is(${FOCUSABLE})[tabindex="0"]`)) element.tabIndex = -1;
    event.target.tabIndex = 0;
  });
  for (const type of ["focusin", "mouseover"]) {
    document.addEventListener(type, (event) => { const price = closestPrice(event); if (price) showTip(price); });
  }
  document.addEventListener("focusout", (event) => { if (closestPrice(event)) hideTip(); });
  document.addEventListener("mouseout", (event) => {
    if (!closestPrice(event)) return;
    hideTip();
    if (document.activeElement && document.activeElement.matches(".price")) showTip(document.activeElement);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hideTip();
    const focused = event.target.closest ? event.target.closest(FOCUSABLE) : null;
    const step = ARROW_STEPS[event.key];
    if (!focused || !step) return undefined;
    event.preventDefault();
    const neighbour = findNeighbour(focused, step);
    if (neighbour) neighbour.focus();
    return undefined;
  });
  document.addEventListener("click", onClick);
  for (const id of ["controls", "calc"]) byId(id).addEventListener("submit", (event) => event.preventDefault());
  const selects = { group: "group", tier: "tier", window: "window", "calc-model": "model", "calc-tier": "mtier" };
  for (const [id, key] of Object.entries(selects)) byId(id).addEventListener("change", () => updateState({ [key]: byId(id).value }));
  byId("unusable").addEventListener("change", () => updateState({ unusable: byId("unusable").checked ? "1" : "" }));
  document.addEventListener("change", (event) => {
    if (event.target.name === "unit" || event.target.name === "channel") updateState({ [event.target.name]: event.target.value });
  });
  for (const [id, key] of Object.entries(TEXT_INPUTS)) {
    // Input of the calculator does not change the table.
    byId(id).addEventListener("input", () => updateState({ [key]: byId(id).value }, id === "search" ? render : renderCalculator));
  }
  addEventListener("hashchange", () => { stateFromHash(); render(); reportUnknownState(); });
}

// A link to a group that no longer exists must not be mistaken for a link to another group.
function reportUnknownState() { if (unknownValues.length) showStatus(translate("bad_link", { what: unknownValues.join(", ") })); }
document.documentElement.classList.add("js");
for (const element of document.querySelectorAll(".needs-js")) element.hidden = false;
stateFromHash();
bindEvents();
render();
reportUnknownState();
