// Checks the JavaScript verifier against the conformance vectors: node check_vectors.mjs [FILE]
//
// Prints one line per vector with another result than expected. Exit status 0: all are as expected.

import { readFile } from "node:fs/promises";
import { verifyReceipt } from "./verify_receipt.mjs";

const path = process.argv[2] ?? new URL("vectors.jsonl", import.meta.url);
const lines = (await readFile(path, "utf8")).split("\n").filter(Boolean).map((line) => JSON.parse(line));
const named = (kind) => new Map(lines.filter((line) => kind in line && (kind === "id" || !("id" in line))).map((line) => [line[kind], line]));
const keys = named("key");
const prices = named("prices");
const vectors = named("id");

/** What an altered receipt does not state is as in the genuine one. */
function complete(vector) {
  if ("receipt_hex" in vector) return { ...vector, bytes: Buffer.from(vector.receipt_hex, "hex") };
  if (!("of" in vector)) return { ...vector, bytes: Buffer.from(vector.receipt, "utf8") };
  const genuine = vectors.get(vector.of);
  const original = Buffer.from(genuine.receipt, "utf8");
  const [start, removed, inserted] = vector.edit;
  const parts = [original.subarray(0, start), Buffer.from(inserted, "hex"), original.subarray(start + removed)];
  return { ...genuine, ...vector, bytes: Buffer.concat(parts) };
}

let wrong = 0;
for (const vector of [...vectors.values()].map(complete)) {
  const result = await verifyReceipt(vector.bytes, {
    publicKey: Buffer.from(keys.get(vector.key ?? "issuer").public_key, "hex"),
    rateCards: prices.get(vector.prices).rate_cards,
    requestId: vector.request_id,
    account: vector.account,
  });
  const found = result.valid ? "valid" : result.failed;
  if (found !== vector.expect) {
    wrong += 1;
    console.log(`${vector.id}: ${found}, expected ${vector.expect} (${result.message})`);
  }
}
console.log(`${vectors.size} vectors, ${wrong} wrong`);
process.exitCode = wrong === 0 ? 0 : 1;
