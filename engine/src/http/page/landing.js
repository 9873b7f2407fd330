// Fills this server's own address and the chosen name into the examples, and opens a stream's page.
"use strict";

const stream = document.getElementById("stream");

function fill(kind, text) {
  for (const place of document.querySelectorAll(`[data-${kind}]`)) place.textContent = text;
}

fill("host", location.hostname);
fill("origin", location.origin);
stream.addEventListener("input", () => { if (stream.checkValidity()) fill("stream", stream.value); });
document.getElementById("go").addEventListener("submit", (event) => {
  event.preventDefault();
  location.assign(`/${stream.value}/`);
});
