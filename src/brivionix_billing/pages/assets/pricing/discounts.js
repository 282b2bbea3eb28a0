// List prices and discounts, as customers say them. They are compared within one currency only.
// The part of the list price that a factor saves or adds, in thousandths, rounded against the seller.
function discountText(factor) {
  const { coefficient, places } = Decimals.parse(factor), one = 10n ** BigInt(places);
  const thousandths = (coefficient * 1000n + one - 1n) / one;
  const percent = (count) => formatPercent(Decimals.format({ coefficient: count, places: 3 }));
  if (coefficient === 0n) return translate("ratio_free");
  if (thousandths < 1000n) {
    const shares = { saved: percent(1000n - thousandths), paid: formatNumber(Decimals.format({ coefficient: thousandths, places: 2 })) };
    return translate("below_list", { share: shares[translate("share")] });
  }
  return coefficient > one ? translate("above_list", { percent: percent(thousandths - 1000n) }) : translate("at_list");
}
// The price of a group as a part of the list price: also through a channel, if it has the currency of the list prices.
function groupDiscount(group, ratio = group.ratio) {
  if (FREE_GROUPS.includes(group.name)) return translate("ratio_free");
  if (ratio === "0" && ratio === group.ratio) return translate("mostly_free");
  if (state.view === "nominal") return discountText(ratio);
  return currentCurrency() === list.currency ? discountText(throughChannel(ratio, currentChannel())) : "";
}
// The list price of a meter, in the currency that the provider states; undefined if only the group has a price.
function listPrice(row, meter) {
  const listed = row.list && row.list.prices[meter];
  if (listed !== undefined) return { price: listed, currency: row.list.currency };
  return row.base[meter] === undefined ? undefined : { price: row.base[meter], currency: list.currency };
}
// The note below a price: the list price struck through if it is higher, or named if it is in another currency.
function listNote(row, meter, price, places = 0) {
  const listed = listPrice(row, meter), currency = currentCurrency();
  if (!listed) return [];
  const value = scaleToUnit(listed.price, meter), text = formatMoney(value, listed.currency);
  const nominal = state.view === "nominal";
  if (!nominal && listed.currency !== currency) return [];
  const comparable = nominal ? row.base[meter] : listed.price;
  if (Decimals.compare(Decimals.parse(price), Decimals.parse(comparable)) < 0) return [createElement("s", { class: "small muted" + paddingClass(value, listed.currency, places) }, text)];
  return listed.currency === currency ? [] : [createNote(translate("listed", { price: text }))];
}
function termsNote(row) {
  if (row.ratio === null) return translate("own_price");
  return row.ratio === currentGroup().ratio ? "" : groupDiscount(currentGroup(), row.ratio);
}
