// Announced changes, in the prices of the view.
function titleOf(change) {
  const above = change.above[1] === null ? change.above[0] : change.above[1];
  const context = change.context === "any" ? "" : contextNote({ above, context: change.context });
  return [change.model, TIERS[state.lang][change.service_tier], context].filter(Boolean).join(" · ");
}
function announced(group, currency) {
  const items = new Map(); // by time and text: a fee that changes for many models is told once
  const put = (at, title, told) => {
    const key = at + "\n" + told;
    if (!items.has(key)) items.set(key, { at, told, titles: new Set() });
    if (title) items.get(key).titles.add(title);
  };
  for (const channel of list.channels) {
    if (state.view === "topup" && channel.name !== state.channel) continue;
    for (const change of channel.changes.filter((one) => one.price_per_credit)) {
      const [was, now] = change.price_per_credit.map((text) => (text === null ? "–" : money(text, channel.currency)));
      put(change.at, "", say("credit_changes", { channel: channel.name, was, now }));
    }
  }
  for (const change of group.changes) {
    const prices = state.view === "topup" ? change.topup[state.channel] || {} : change.nominal;
    // Exact: rounded, two announced prices might look the same.
    const price = (text, meter) => (text === null ? "–" : exactly(inUnit(text, meter), currency));
    const told = change.kind === "changes" ? [] : [say(change.kind)];
    const [before, after] = change.above;
    if (change.kind === "changes" && before !== after && before !== null && after !== null) {
      told.push(say("threshold", { was: number(before), now: number(after) }));
    }
    for (const [meter, [was, now]] of change.kind === "ends" ? [] : Object.entries(prices)) {
      const text = change.kind === "begins"
        ? say("starts_at", { meter: METERS[state.lang][meter], now: price(now, meter) })
        : say("was_now", { meter: METERS[state.lang][meter], was: price(was, meter), now: price(now, meter) });
      if (isTokens(meter)) told.push(text); else put(change.at, change.model, `${text} ${unitOf(meter)}`);
    }
    if (told.length) put(change.at, titleOf(change), told.join(" · "));
  }
  return [...items.values()].sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
}
function renderChanges() {
  const items = announced(theGroup(), currencyOf());
  byId("changes-list").replaceChildren(items.length
    ? element("ul", { class: "changes" }, ...items.map(({ at, told, titles }) => element("li", {},
      element("time", { datetime: at }, start.dates[at][state.lang]),
      element("div", {}, ...(titles.size ? [element("strong", {}, [...titles].join(", "))] : []), element("div", {}, told)))))
    : element("p", { class: "small muted" }, say("nothing_announced")));
}
