// The calculator: the exact cost of a call, as `book.rate` computes it.
function parseCount(key, label) {
  const text = state[key].trim().replace(/[,_\s]/g, "") || "0";
  const count = /^\d{1,13}$/.test(text) ? BigInt(text) : MAX_COUNT + 1n;
  byId("calc-" + key).setAttribute("aria-invalid", String(count > MAX_COUNT));
  if (count > MAX_COUNT) throw new RangeError(translate("bad_count", { field: translate(label) }));
  return count;
}
// The model and tier of the call: as selected, if the group has them.
function selectedCall(group) {
  const models = [...new Set(group.prices.map((row) => row.model))];
  const model = models.includes(state.model) ? state.model : models[0] || "";
  const tiers = [...new Set(group.prices.filter((row) => row.model === model).map((row) => row.service_tier))];
  const tier = tiers.includes(state.mtier) ? state.mtier : tiers.includes("standard") ? "standard" : tiers[0] || "";
  return { models, model, tiers, tier };
}
function calculateCall(group, { model, tier }) {
  const input = parseCount("input", "calc_input"), cached = parseCount("cached", "calc_cached");
  const output = parseCount("output", "calc_output"), searches = parseCount("searches", "calc_searches");
  if (cached > input) {
    byId("calc-cached").setAttribute("aria-invalid", "true");
    throw new RangeError(translate("bad_cached", { cached: formatNumber(cached), input: formatNumber(input) }));
  }
  // The usual price: prices of a region, a mode or a window are in the table.
  const rows = group.prices.filter((row) => row.model === model && row.service_tier === tier && !row.conditions);
  const row = rows.find(({ context, above, up_to: upTo }) => context === "any" ||
    (context === "short" ? input <= BigInt(above) : input > BigInt(above) && (upTo === undefined || input <= BigInt(upTo))));
  const quantities = { input: input - cached, cache_read: cached, output, web_search: searches };
  let nominal = Decimals.ZERO;
  const lines = [];
  for (const [meter, quantity] of Object.entries(quantities)) {
    if (!quantity) continue;
    const price = row.nominal[meter];
    if (price === undefined) throw new RangeError(translate("bad_price", { meter: METER_LABELS[state.lang][meter] }));
    const amount = Decimals.multiply({ coefficient: quantity, places: 0 }, Decimals.parse(price));
    const part = Decimals.scaleDown(amount, METER_UNITS[meter] === 1000 ? 3 : 6);
    nominal = Decimals.add(nominal, part);
    lines.push({ meter, quantity, price, part: Decimals.format(part) });
  }
  const credits = Decimals.divideExactly(nominal, Decimals.parse(list.nominal_per_credit));
  return { row, lines, nominal, credits, input };
}
function renderCalculator() {
  const group = currentGroup();
  const selected = selectedCall(group);
  fillSelect(byId("calc-model"), selected.models.map((name) => [name, name]), selected.model);
  fillSelect(byId("calc-tier"), selected.tiers.map((name) => [name, TIER_LABELS[state.lang][name]]), selected.tier);
  const result = byId("result");
  if (!selected.model) return result.replaceChildren(createElement("p", { class: "wrong" }, translate("none")));
  let call;
  try { call = calculateCall(group, selected); } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return result.replaceChildren(createElement("p", { class: "wrong" }, error.message));
  }
  const maxInput = MODELS[selected.model].context.max_input;
  const amounts = [
    ["nominal", translate("calc_nominal"), formatMoney(Decimals.format(call.nominal), list.currency)],
    ["credits", translate("calc_credits"), formatNumber(Decimals.format(call.credits))],
    ...CHANNELS.filter((channel) => channel.name in call.row.topup).map((channel) => [
      channel.name, translate("calc_topup", { channel: named("channel", channel.name) }),
      formatMoney(Decimals.format(Decimals.multiply(call.credits, Decimals.parse(channel.price_per_credit))), channel.currency)]),
  ];
  return result.replaceChildren(
    createElement("dl", {}, ...amounts.map(([key, label, text]) =>
      createElement("div", { "data-result": key }, createElement("dt", {}, label), createElement("dd", {}, text)))),
    createElement("p", { class: "small muted" }, translate("calc_exact", { group: named("group", group.name) }),
      ...(call.row.above !== null && call.row.context !== "short" ? [translate("sentence_separator"), translate("calc_long", { range: contextNote(call.row) })] : []),
      ...(maxInput !== null && call.input > BigInt(maxInput)
        ? [translate("sentence_separator"), createElement("strong", { class: "wrong" }, translate("calc_most", { model: selected.model, tokens: formatNumber(maxInput) }))]
        : [])),
    createElement("ul", { class: "small" }, ...call.lines.map(({ meter, quantity, price, part }) => createElement("li", {},
      translate("calc_line", {
        meter: METER_LABELS[state.lang][meter], quantity: formatNumber(quantity), price: formatMoney(price, list.currency),
        per: formatNumber(METER_UNITS[meter]), part: formatMoney(part, list.currency),
      })))),
  );
}
