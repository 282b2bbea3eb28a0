#!/bin/sh
# Builds the VitePress and Docusaurus examples with the prices of the price file, in a copy of this folder.
# Usage: build.sh FOLDER (a new folder). Needs Node 20 or newer, npm and brivionix-billing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=$1
mkdir "$target"
cp -R "$here/vitepress" "$here/docusaurus" "$here/frame.html" "$target"
mkdir -p "$target/vitepress/docs/public" "$target/docusaurus/static"
brivionix-billing page --prices "$here/../../pricing.yaml" --group default \
  --out "$target/pricing.html" --component "$target/prices.js"
cp "$target/prices.js" "$target/vitepress/docs/public/"
cp "$target/prices.js" "$target/docusaurus/static/"
for site in vitepress docusaurus; do
  (cd "$target/$site" && npm install --no-audit --no-fund && npm run build)
done
echo "Look at them: (cd $target/vitepress && npm run preview), (cd $target/docusaurus && npm run serve)"
