"use strict";
(() => {
  const find = (selector, within = document) => within.querySelector(selector);
  const read = (id) => JSON.parse(find(id)?.textContent ?? "null");
  const thousands = new Intl.NumberFormat("en");
  const only = (words, fits) => document.dispatchEvent(new CustomEvent("only", { detail: { words, fits } }));

  function cell(row, text, name = "td") {
    const made = document.createElement(name);
    made.textContent = text;
    row.append(made);
    return made;
  }

  // ---- the confusion matrix: its cells are made here, since a page has one matrix for each run and unit
  const confusion = read("#confusion-data");
  if (confusion) {
    const form = find("#confusion form");
    const words = find("#confused-words");
    const table = find("#matrix");
    const draw = () => {
      const chosen = new FormData(form);
      const matrix = confusion.matrices[chosen.get("run") ?? 0];
      const shares = chosen.get("unit") === "share";
      table.replaceChildren();
      const head = table.createTHead().insertRow();
      cell(head, "label", "th");
      confusion.classes.forEach((name) => { cell(head, "", "th").append(Object.assign(document.createElement("span"), { textContent: name })); });
      const body = table.createTBody();
      matrix.forEach((counts, label) => {
        const total = counts.reduce((sum, count) => sum + count, 0);
        const row = body.insertRow();
        cell(row, confusion.classes[label], "th").scope = "row";
        counts.forEach((count, predicted) => {
          const share = total ? count / total : 0;
          const made = cell(row, !total ? "" : shares ? (100 * share).toFixed(share && share < 0.0995 ? 1 : 0) : thousands.format(count));
          made.style.setProperty("--share", Math.sqrt(share));
          made.className = label === predicted ? "right" : "wrong";
          made.dataset.label = label;
          made.dataset.predicted = predicted;
          const [a, b] = [confusion.classes[label], confusion.classes[predicted]];
          const part = total ? `${(100 * share).toFixed(1)} % of the label, ${thousands.format(count)} pixels` : "absent from the labels";
          made.title = label === predicted ? `${a} predicted correctly: ${part}` : `${a} predicted as ${b}: ${part}`;
        });
      });
    };
    form.addEventListener("change", draw);
    form.addEventListener("submit", (event) => event.preventDefault());
    table.addEventListener("pointerover", (event) => { if (event.target.title) words.textContent = event.target.title; });
    table.addEventListener("click", (event) => {
      const { label, predicted } = event.target.dataset;
      if (label === undefined || label === predicted) return;
      only(`${confusion.classes[label]} predicted as ${confusion.classes[predicted]}`, (card) => card.class === label && card.wrong === predicted);
    });
    draw();
  }

  // ---- the table of images
  const images = read("#image-data");
  if (images) {
    const table = find("#image-table");
    const everything = find("#all-images");
    const runs = images.runs.map((name) => (images.runs.length > 1 ? `, ${name}` : ""));
    const columns = [["image", (row) => row[0]]];
    [["correct pixels, %", 1], ["objects and parts missed", 2], ["objects invented", 3]].forEach(([title, index]) => {
      runs.forEach((name, run) => columns.push([title + name, (row) => row[index][run]]));
    });
    let sorted = 1;
    let falling = false;
    let limit = 50;
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : (a ?? Infinity) - (b ?? Infinity));
    const draw = () => {
      const value = columns[sorted][1];
      const rows = [...images.rows].sort((a, b) => (falling ? -1 : 1) * compare(value(a), value(b)));
      table.replaceChildren();
      const head = table.createTHead().insertRow();
      columns.forEach(([title], index) => {
        const heading = cell(head, "", "th");
        heading.ariaSort = index !== sorted ? "none" : falling ? "descending" : "ascending";
        const button = Object.assign(document.createElement("button"), { type: "button", textContent: title });
        button.addEventListener("click", () => {
          falling = index === sorted ? !falling : index > runs.length;
          sorted = index;
          draw();
          find(`th:nth-child(${index + 1}) button`, table).focus();
        });
        heading.append(button);
      });
      const body = table.createTBody();
      for (const row of rows.slice(0, limit)) {
        const line = body.insertRow();
        columns.forEach(([, value], index) => {
          const found = value(row);
          const made = cell(line, index === 0 ? "" : found === null ? "–" : index <= runs.length ? found.toFixed(1) : found);
          if (index) return;
          const button = Object.assign(document.createElement("button"), { type: "button", textContent: found });
          button.addEventListener("click", () => only(found, (card) => card.image === found));
          made.append(button);
        });
      }
      everything.hidden = limit >= rows.length;
      everything.textContent = `Show all ${rows.length} images`;
    };
    everything.addEventListener("click", () => { limit = Infinity; draw(); });
    draw();
  }
})();
