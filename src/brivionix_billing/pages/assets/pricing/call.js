// What a call of the reader's own size costs, exactly.
function count(key, field) {
  const text = state[key].trim().replace(/[,_\s]/g, "") || "0";
  const value = /^\d{1,13}$/.test(text) ? BigInt(text) : MOST + 1n;
  byId("calc-" + key).setAttribute("aria-invalid", String(value > MOST));
  if (value > MOST) throw new RangeError(say("bad_count", { field: say(field) }));
  return value;
}
// The model and tier of the sample call: as chosen, where the group has them.
function callOf(group) {
  const models = [...new Set(group.prices.map((row) => row.model))];
  const model = models.includes(state.model) ? state.model : models[0] || "";
  const tiers = [...new Set(group.prices.filter((row) => row.model === model).map((row) => row.service_tier))];
  const tier = tiers.includes(state.mtier) ? state.mtier : tiers.includes("standard") ? "standard" : tiers[0] || "";
  return { models, model, tiers, tier };
}
function sample(group, call) {
  const input = count("input", "calc_input"), cached = count("cached", "calc_cached");
  const output = count("output", "calc_output"), searches = count("searches", "calc_searches");
  if (cached > input) {
    byId("calc-cached").setAttribute("aria-invalid", "true");
    throw new RangeError(say("bad_cached", { cached: number(cached), input: number(input) }));
  }
  const rows = group.prices.filter((row) => row.model === call.model && row.service_tier === call.tier);
  const row = rows.find((one) => one.context === "any" || (one.context === "long") === (input > BigInt(one.above)));
  const used = { input: input - cached, cache_read: cached, output, web_search: searches };
  let nominal = { n: 0n, p: 0 };
  const lines = [];
  for (const [meter, quantity] of Object.entries(used)) {
    if (!quantity) continue;
    const price = row.nominal[meter];
    if (price === undefined) throw new RangeError(say("bad_price", { meter: METERS[state.lang][meter] }));
    const exact = Exact.of(price), per = PER[meter] === 1000 ? 3 : 6;
    const part = { n: quantity * exact.n, p: exact.p + per };
    nominal = Exact.plus(nominal, part);
    lines.push([meter, quantity, price, Exact.text(part)]);
  }
  const credits = Exact.over(nominal, Exact.of(list.nominal_per_credit));
  return { row, lines, nominal, credits, input };
}
function renderSample() {
  const group = theGroup();
  const call = callOf(group);
  options(byId("calc-model"), call.models.map((name) => [name, name]), call.model);
  options(byId("calc-tier"), call.tiers.map((name) => [name, TIERS[state.lang][name]]), call.tier);
  const out = byId("result");
  if (!call.model) return out.replaceChildren(element("p", { class: "wrong" }, say("none")));
  let found;
  try { found = sample(group, call); } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return out.replaceChildren(element("p", { class: "wrong" }, error.message));
  }
  const most = MODELS[call.model].context.max_input;
  const results = [
    ["nominal", say("calc_nominal"), money(Exact.text(found.nominal), list.currency)],
    ["credits", say("calc_credits"), number(Exact.text(found.credits))],
    ...CHANNELS.filter((channel) => channel.name in found.row.topup).map((channel) => [
      channel.name, say("calc_topup", { channel: channel.name }),
      money(Exact.text(Exact.times(found.credits, Exact.of(channel.price_per_credit))), channel.currency)]),
  ];
  return out.replaceChildren(
    element("dl", {}, ...results.map(([key, label, text]) => element("div", { "data-result": key }, element("dt", {}, label), element("dd", {}, text)))),
    element("p", { class: "small muted" }, say("calc_exact", { group: group.name }),
      ...(found.row.context === "long" ? [" ", say("calc_long", { tokens: number(found.row.above) })] : []),
      ...(found.input > BigInt(most) ? [" ", element("strong", { class: "wrong" }, say("calc_most", { model: call.model, tokens: number(most) }))] : [])),
    element("ul", { class: "small" }, ...found.lines.map(([meter, quantity, price, part]) => element("li", {},
      say("calc_line", {
        meter: METERS[state.lang][meter], quantity: number(quantity), price: money(price, list.currency),
        per: number(PER[meter]), part: money(part, list.currency),
      })))),
  );
}
