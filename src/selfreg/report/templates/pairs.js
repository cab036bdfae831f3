"use strict";
(() => {
  // ---- which two runs are compared: everything about other pairs is hidden
  const select = document.querySelector("#pair");
  if (!select) return;
  select.addEventListener("change", () => {
    for (const part of document.querySelectorAll("[data-pair]")) part.hidden = part.dataset.pair !== select.value;
    const control = select.value.split("-")[0];
    for (const part of document.querySelectorAll("[data-control]")) part.hidden = part.dataset.control !== control;
    document.dispatchEvent(new CustomEvent("pair", { detail: select.value.split("-").map(Number) }));
  });
})();
