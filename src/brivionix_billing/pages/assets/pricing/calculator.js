// The calculator: the exact cost of a call, as `book.rate` computes it, of a day and of a month.
const DAYS_OF_MONTH = "30";
// Meters whose quantity follows from the call: one request, and every input token for a router.
const FOLLOWING_METERS = ["request", "router_fee"];
const conditionKey = (row) => JSON.stringify(row.conditions || {});
// The model, tier and conditions of the call: as selected, if the group has them.
function selectedCall(group) {
  const models = [...groupModels(group).keys()];
  const model = models.includes(state.model) ? state.model : models[0] || "";
  const ofModel = groupModels(group).get(model) || [];
  const tiers = [...new Set(ofModel.map((row) => row.service_tier))];
  const tier = tiers.includes(state.mtier) ? state.mtier : tiers.includes("standard") ? "standard" : tiers[0] || "";
  const ofTier = ofModel.filter((row) => row.service_tier === tier);
  const cases = [...new Map(ofTier.map((row) => [conditionKey(row), row]))];
  const chosen = cases.some(([key]) => key === state.conditions) ? state.conditions : cases.length ? cases[0][0] : "{}";
  const rows = ofTier.filter((row) => conditionKey(row) === chosen);
  const priced = new Set(rows.flatMap((row) => Object.keys(nominalPrices(row))));
  if (priced.has("router_fee")) priced.add("input");
  const meters = list.meters.filter(({ name }) => priced.has(name) && !FOLLOWING_METERS.includes(name));
  return { models, model, tiers, tier, cases, chosen, rows, meters };
}
// The other meters of a direction are parts of its total, which has the price of what is in none of them.
const totalOf = ({ direction }) => direction;
const isPart = (meter, meters) => meter.direction && meter.name !== totalOf(meter) && meters.some(({ name }) => name === totalOf(meter));
function countLabel(meter, meters) {
  if (isPart(meter, meters)) return translate("calc_part", { quantity: meter.quantity[state.lang] });
  if (meter.name === totalOf(meter) && meters.some((other) => other !== meter && isPart(other, meters) && other.direction === meter.direction)) return translate("calc_" + meter.name);
  const label = meter.quantity[state.lang];
  return label[0].toUpperCase() + label.slice(1);
}
const countText = (meter) => (counts[meter] === undefined ? DEFAULT_COUNTS[meter] || "0" : counts[meter]);
function parseCount(id, text, label, places) {
  const plain = text.trim().replace(/[,_\s]/g, "") || "0";
  const valid = (places ? /^\d{1,13}(\.\d+)?$/ : /^\d{1,13}$/).test(plain);
  const count = valid ? Decimals.parse(plain) : { coefficient: -1n, places: 0 };
  const isRight = valid && count.places <= places && Decimals.compare(count, { coefficient: MAX_COUNT, places: 0 }) <= 0;
  byId(id).setAttribute("aria-invalid", String(!isRight));
  if (!isRight) throw new RangeError(translate(places ? "bad_number" : "bad_count", { field: label, places: formatNumber(places) }));
  return count;
}
// The quantity of each meter. Meters are disjoint: the parts are taken from the total.
function readQuantities(meters) {
  const quantities = Object.fromEntries(meters.map((meter) =>
    [meter.name, parseCount("calc-" + meter.name, countText(meter.name), countLabel(meter, meters), meter.places)]));
  const totals = {};
  for (const direction of ["input", "output"]) {
    const parts = meters.filter((meter) => meter.direction === direction && meter.name !== direction);
    const sum = parts.reduce((total, { name }) => Decimals.add(total, quantities[name]), Decimals.ZERO);
    totals[direction] = quantities[direction] || sum;
    if (!quantities[direction]) continue;
    quantities[direction] = Decimals.add(totals[direction], Decimals.negate(sum));
    if (Decimals.compare(quantities[direction], Decimals.ZERO) < 0) {
      for (const { name } of parts) byId("calc-" + name).setAttribute("aria-invalid", "true");
      throw new RangeError(translate("bad_parts_" + direction, { parts: formatNumber(Decimals.format(sum)), total: formatNumber(Decimals.format(totals[direction])) }));
    }
  }
  return { quantities, input: totals.input.coefficient };
}
function calculateCall({ rows, meters }) {
  const { quantities, input } = readQuantities(meters);
  const row = rows.find(({ context, above, up_to: upTo }) => context === "any" ||
    (context === "short" ? input <= BigInt(above) : input > BigInt(above) && (upTo === undefined || input <= BigInt(upTo))));
  const prices = nominalPrices(row);
  if ("request" in prices) quantities.request = { coefficient: 1n, places: 0 };
  if ("router_fee" in prices) {
    quantities.router_fee = { coefficient: input, places: 0 };
    if (!("input" in prices)) delete quantities.input;
  }
  let nominal = Decimals.ZERO;
  const lines = [];
  for (const [meter, quantity] of Object.entries(quantities)) {
    if (!quantity.coefficient) continue;
    const price = prices[meter], per = METERS_BY_NAME[meter].per;
    if (price === undefined) throw new RangeError(translate("bad_price", { meter: METER_LABELS[state.lang][meter] }));
    const part = Decimals.divideExactly(Decimals.multiply(quantity, Decimals.parse(price)), Decimals.parse(String(per)));
    nominal = Decimals.add(nominal, part);
    lines.push({ meter, quantity: Decimals.format(quantity), price, per, part: Decimals.format(part) });
  }
  const least = row.minimum === undefined ? Decimals.ZERO : Decimals.parse(row.minimum);
  const isRaised = Decimals.compare(nominal, least) < 0;
  return { row, lines, nominal: Decimals.format(isRaised ? least : nominal), isRaised, input };
}
let renderedFields = "";
function renderFields(selected) {
  const key = JSON.stringify([state.lang, selected.meters.map((meter) => meter.name)]);
  if (key === renderedFields) return; // a field that is being typed into must stay
  renderedFields = key;
  byId("calc-meters").replaceChildren(...selected.meters.map((meter) => {
    const id = "calc-" + meter.name;
    const input = createElement("input", { id, "data-count": meter.name, inputmode: meter.places ? "decimal" : "numeric", maxlength: "24" });
    return createElement("div", { class: "field" }, createElement("label", { for: id }, countLabel(meter, selected.meters)), input);
  }));
}
function renderCalculator() {
  const selected = selectedCall(currentGroup());
  fillSelect(byId("calc-model"), selected.models.map((name) => [name, name]), selected.model);
  fillSelect(byId("calc-tier"), selected.tiers.map((name) => [name, TIER_LABELS[state.lang][name]]), selected.tier);
  fillSelect(byId("calc-conditions"), selected.cases.map(([key, row]) => [key, conditionNotes(row).join(" · ") || translate("usual_price")]), selected.chosen);
  byId("calc-conditions-field").hidden = selected.cases.length < 2;
  renderFields(selected);
  for (const input of byId("calc-meters").querySelectorAll("input")) {
    const text = countText(input.dataset.count);
    if (input.value !== text) input.value = text;
  }
  if (byId("calc-calls").value !== state.calls) byId("calc-calls").value = state.calls;
  renderResult(selected);
}
function renderResult(selected) {
  const result = byId("result"), showError = (text) => result.replaceChildren(createElement("p", { class: "wrong" }, text));
  if (!selected.model) return showError(translate("none"));
  let call, calls;
  try {
    call = calculateCall(selected);
    calls = Decimals.format(parseCount("calc-calls", state.calls, translate("calc_calls"), 0));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return showError(error.message);
  }
  const credits = Decimals.format(Decimals.divideExactly(Decimals.parse(call.nominal), Decimals.parse(list.nominal_per_credit)));
  const amounts = [
    ["nominal", translate("calc_nominal"), call.nominal, (text) => formatMoney(text, list.currency)],
    ["credits", translate("calc_credits"), credits, formatNumber],
    ...CHANNELS.map((channel) => [channel.name, translate("calc_topup", { channel: named("channel", channel.name) }),
      throughChannel(call.nominal, channel), (text) => formatMoney(text, channel.currency)]),
  ];
  const perDay = (amount) => multiplyTexts(amount, calls);
  const boxes = amounts.map(([key, label, amount, format]) => createElement("div", { "data-result": key }, createElement("h3", {}, label),
    createElement("dl", {}, ...[["calc_per_call", amount], ["calc_per_day", perDay(amount)], ["calc_per_month", multiplyTexts(perDay(amount), DAYS_OF_MONTH)]]
      .map(([period, text]) => createElement("div", {}, createElement("dt", {}, translate(period)), createElement("dd", {}, format(text)))))));
  const maxInput = MODELS[selected.model].context.max_input;
  const notes = [translate("calc_exact", { group: named("group", state.group) })];
  if (call.row.above !== null && call.row.context !== "short") notes.push(translate("calc_long", { range: contextNote(call.row) }));
  if (call.isRaised) notes.push(translate("calc_minimum", { price: formatMoney(call.nominal, list.currency) }));
  return result.replaceChildren(
    createElement("div", { class: "amounts" }, ...boxes),
    createElement("p", { class: "small muted" }, notes.join(translate("sentence_separator")),
      ...(maxInput !== null && call.input > BigInt(maxInput)
        ? [" ", createElement("strong", { class: "wrong" }, translate("calc_most", { model: selected.model, tokens: formatNumber(maxInput) }))]
        : [])),
    createElement("ul", { class: "small" }, ...call.lines.map(({ meter, quantity, price, per, part }) => createElement("li", {},
      translate("calc_line", {
        meter: METER_LABELS[state.lang][meter], quantity: formatNumber(quantity), price: formatMoney(price, list.currency),
        per: formatNumber(per), part: formatMoney(part, list.currency),
      })))),
  );
}
