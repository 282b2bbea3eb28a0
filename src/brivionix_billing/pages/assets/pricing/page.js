// Where the view is: the whole document. A component has a shadow root, its element and its data instead.
const ROOT = document, HOST = document.documentElement, EMBEDDED = false;
const DATA = JSON.parse(document.getElementById("data").textContent);
