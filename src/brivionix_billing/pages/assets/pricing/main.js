// Events, and the first rendering.
const FOCUSABLE = ".price, .expand, .copy";
const ARROW_STEPS = { // [columns, rows]
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Home: [-Infinity, 0], End: [Infinity, 0],
};
// The price or button that an arrow key leads to from a cell's price or button.
function findNeighbour(focused, [columns, rows]) {
  const cell = focused.closest("td, th"), row = cell.parentElement;
  if (columns) {
    const inRow = [...row.querySelectorAll(FOCUSABLE)];
    if (columns === Infinity) return inRow[inRow.length - 1];
    return columns === -Infinity ? inRow[0] : inRow[inRow.indexOf(focused) + columns];
  }
  for (let other = row; (other = rows > 0 ? other.nextElementSibling : other.previousElementSibling);) {
    const target = (other.children[cell.cellIndex] || other).querySelector(FOCUSABLE);
    if (target) return target;
  }
  return null;
}
function onClick(event) {
  const button = event.target.closest("button");
  if (!button) return undefined;
  const { exact, currency, row, language, sort, copy } = button.dataset;
  if (button.matches(".price")) return copyText(exact, formatMoney(exact, currency));
  if (button.matches(".expand")) return toggleDetails(button);
  if (copy) return copyText(copy);
  if (row) return copyText(rowAsTsv(groupRows(currentGroup())[Number(row)]));
  if (language) return updateState({ lang: language });
  if (sort) {
    const same = state.sort === sort;
    return updateState(same && state.dir ? { sort: "", dir: "" } : { sort, dir: same ? "desc" : "" });
  }
  if (button.id === "topup") return updateState({ view: state.view === "topup" ? "nominal" : "topup" });
  if (button.id === "more") return button.setAttribute("aria-expanded", String(button.getAttribute("aria-expanded") === "false"));
  if (button.id === "copy-link") return copyText(location.href.split("#")[0] + stateToHash(["lang", "group", "view", "channel"]));
  if (button.id === "reset") { counts = {}; return updateState({ ...DEFAULTS, lang: state.lang }); }
  return undefined;
}
function onSelectGroup() {
  const name = byId("group").value;
  updateState(name ? { group: name, compare: "" } : { compare: SOLD_METERS[0] });
}
function bindEvents() {
  ROOT.addEventListener("focusin", (event) => {
    if (!event.target.matches(FOCUSABLE)) return;
    for (const element of ROOT.querySelectorAll(`#table :is(${FOCUSABLE})[tabindex="0"]`)) element.tabIndex = -1;
    event.target.tabIndex = 0;
  });
  for (const type of ["focusin", "mouseover"]) {
    ROOT.addEventListener(type, (event) => { const price = closestPrice(event); if (price) showTip(price); });
  }
  ROOT.addEventListener("focusout", (event) => { if (closestPrice(event)) hideTip(); });
  ROOT.addEventListener("mouseout", (event) => {
    if (!closestPrice(event)) return;
    hideTip();
    if (ROOT.activeElement && ROOT.activeElement.matches(".price")) showTip(ROOT.activeElement);
  });
  const onScroll = () => {
    if (!HOST.isConnected) removeEventListener("scroll", onScroll, { capture: true }); // a component that was removed
    const described = ROOT.querySelector("[aria-describedby=tip]");
    if (described) showTip(described);
  };
  addEventListener("scroll", onScroll, { capture: true, passive: true });
  ROOT.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hideTip();
    const focused = event.target.closest ? event.target.closest(FOCUSABLE) : null;
    const step = ARROW_STEPS[event.key];
    if (!focused || !step) return undefined;
    event.preventDefault();
    const neighbour = findNeighbour(focused, step);
    if (neighbour) neighbour.focus();
    return undefined;
  });
  ROOT.addEventListener("click", onClick);
  for (const id of ["controls", "calc"]) byId(id).addEventListener("submit", (event) => event.preventDefault());
  const selects = { compare: "compare", tier: "tier", window: "window", "calc-model": "model", "calc-tier": "mtier", "calc-conditions": "conditions" };
  for (const [id, key] of Object.entries(selects)) byId(id).addEventListener("change", () => updateState({ [key]: byId(id).value }, id.startsWith("calc") ? renderCalculator : render));
  byId("group").addEventListener("change", onSelectGroup);
  byId("unusable").addEventListener("change", () => updateState({ unusable: byId("unusable").checked ? "1" : "" }));
  ROOT.addEventListener("change", (event) => {
    if (event.target.name === "unit" || event.target.name === "channel") updateState({ [event.target.name]: event.target.value });
  });
  byId("search").addEventListener("input", () => updateState({ q: byId("search").value }));
  // Input of the calculator does not change the table.
  byId("calc").addEventListener("input", ({ target }) => {
    if (target.id === "calc-calls") updateState({ calls: target.value }, renderCalculator);
    if (!target.dataset.count) return;
    counts[target.dataset.count] = target.value;
    showState(renderCalculator);
  });
  if (!EMBEDDED) addEventListener("hashchange", () => { stateFromHash(); render(); reportUnknownState(); });
  const timer = setInterval(() => (HOST.isConnected ? renderWindows() : clearInterval(timer)), 60000);
}

// A link to a group that no longer exists must not be mistaken for a link to another group.
function reportUnknownState() { if (unknownValues.length) showStatus(translate("bad_link", { what: unknownValues.join(", ") })); }
// Without room, the reader sees search, group and prices first.
function collapseSections() {
  if (byId("frame").clientWidth < 46 * 16) for (const section of ROOT.querySelectorAll("details")) section.open = false;
}
function start() {
  byId("frame").classList.add("js");
  for (const element of ROOT.querySelectorAll(".needs-js")) element.hidden = false;
  stateFromHash();
  collapseSections();
  bindEvents();
  render();
  reportUnknownState();
}
