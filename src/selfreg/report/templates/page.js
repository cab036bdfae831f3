"use strict";
(() => {
  const find = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const root = document.documentElement;

  function switchTheme() {
    const dark = root.style.colorScheme
      ? root.style.colorScheme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.style.colorScheme = dark ? "light" : "dark";
  }
  find("#theme").addEventListener("click", switchTheme);

  const list = find("#cards");
  if (!list) {
    document.addEventListener("keydown", (event) => {
      if (event.key === "t" && !event.ctrlKey && !event.metaKey && !event.altKey) switchTheme();
    });
    return;
  }

  const pictures = JSON.parse(find("#pictures").textContent);
  const cards = all(".card", list);
  const toolbar = find("#toolbar");
  const dialog = find("#inspector");
  const filled = new Set();
  const number = cards.length ? all('.tile[data-view^="run"]', cards[0]).length : 0;
  let pair = [0, Math.max(number - 1, 0)];
  let zoomed = true;
  let only = null;

  // ---- the cards: pictures come in when they come near the window
  function fill(card) {
    filled.add(card);
    for (const tile of all(".tile", card)) {
      const close = zoomed && tile.dataset.view !== "context";
      for (const picture of all("img", tile)) picture.src = pictures[close ? picture.dataset.zoom : picture.dataset.whole];
      const marks = find(".marks", tile);
      if (marks) marks.setAttribute("viewBox", close ? card.dataset.zoomBox : card.dataset.wholeBox);
    }
  }
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      near.unobserve(entry.target);
      fill(entry.target);
    }
  }, { rootMargin: "800px" });
  cards.forEach((card) => near.observe(card));
  addEventListener("beforeprint", () => cards.forEach(fill));

  const shown = () => all(".card:not([hidden])", list);
  const openable = () => shown().filter((card) => find(".open", card));

  function choose() {
    const wanted = new FormData(toolbar);
    const order = {
      gain: (a, b) => b.dataset.change - a.dataset.change,
      loss: (a, b) => a.dataset.change - b.dataset.change,
      severity: (a, b) => b.dataset.severity - a.dataset.severity,
      image: (a, b) => a.dataset.image.localeCompare(b.dataset.image),
    }[wanted.get("order")] ?? (() => 0);
    const rank = (card) => (pairs ? -Math.abs(card.dataset.change) : 0);
    cards.sort((a, b) => order(a, b) || rank(a) - rank(b) || a.dataset.index - b.dataset.index);
    list.append(...cards);
    for (const card of cards) {
      card.hidden = !(
        (!wanted.get("kind") || card.dataset.kind === wanted.get("kind")) &&
        (!wanted.get("class") || card.dataset.classes.includes(` ${wanted.get("class")} `)) &&
        (!wanted.get("direction") || card.dataset.direction === wanted.get("direction")) &&
        (!only || only.fits(card.dataset))
      );
    }
    const count = shown().length;
    const unit = find("#count").dataset.unit ?? "cases";
    find("#count").textContent = count === cards.length ? `${count} ${unit}` : `${count} of ${cards.length} ${unit}`;
    find("#none").hidden = count > 0;
    const limited = find("#only");
    if (limited) {
      limited.hidden = !only;
      limited.textContent = only ? `${only.words} ✕` : "";
    }
  }
  document.addEventListener("only", ({ detail }) => {
    toolbar.reset();
    only = detail;
    choose();
    find("#cases").scrollIntoView();
  });
  find("#only")?.addEventListener("click", () => { only = null; choose(); });

  // ---- another pair of runs: update changes, directions and the pictures that can be swapped
  let pairs = false;
  document.addEventListener("pair", ({ detail }) => {
    pair = detail;
    pairs = true;
    for (const card of cards) {
      const quality = card.dataset.quality.split(" ").filter(Boolean).map(Number);
      if (quality.length === number) card.dataset.change = quality[pair[1]] - quality[pair[0]];
      const change = Number(card.dataset.change);
      card.dataset.direction = change > 0 ? "gained" : change < 0 ? "lost" : "same";
      card.classList.remove("gained", "lost", "same");
      card.classList.add(card.dataset.direction);
      const words = find(".direction", card);
      if (words) words.textContent = { gained: "▲ gained", lost: "▼ lost", same: "unchanged" }[card.dataset.direction];
      const tiles = pair.map((run) => find(`.tile.run${run}`, card));
      for (const tile of all(".turns", card)) tile.classList.remove("turns");
      tiles.forEach((tile, index) => {
        tile.classList.add("turns");
        tile.style.setProperty("--other", tiles[1 - index].style.getPropertyValue("--place"));
      });
    }
    choose();
  });
  toolbar.addEventListener("change", (event) => {
    if (event.target.name !== "opacity") choose();
  });
  toolbar.addEventListener("submit", (event) => event.preventDefault());
  toolbar.elements.opacity.addEventListener("input", (event) => root.style.setProperty("--mask", event.target.value / 100));
  find("#reset").addEventListener("click", () => { toolbar.reset(); only = null; root.style.removeProperty("--mask"); choose(); });

  function flip() {
    const button = find("#flip");
    if (!button) return;
    button.setAttribute("aria-pressed", String(list.classList.toggle("flipped")));
  }
  find("#flip")?.addEventListener("click", flip);

  function zoom() {
    if (!find("#zoom")) return;
    zoomed = !zoomed;
    list.classList.toggle("whole", !zoomed);
    for (const button of [find("#zoom"), find("#inspector-zoom")]) button.setAttribute("aria-pressed", String(zoomed));
    filled.forEach(fill);
    if (dialog.open) show();
  }
  find("#zoom")?.addEventListener("click", zoom);

  function outline() {
    const button = find("#outline");
    if (!button) return;
    const hidden = root.classList.toggle("plain");
    button.setAttribute("aria-pressed", String(!hidden));
  }
  find("#outline")?.addEventListener("click", outline);

  function step(by) {
    const visible = openable();
    const here = visible.indexOf(document.activeElement.closest?.(".card"));
    const next = visible[here < 0 ? 0 : Math.min(Math.max(here + by, 0), visible.length - 1)];
    if (!next) return;
    find(".open", next).focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }

  // ---- the large picture
  const stage = find("#stage");
  const wipe = find("#wipe");
  const chips = find("#views .chips");
  let current = null;
  let view = wipe ? "wipe" : "run0";

  function element(name, classes, within) {
    const made = document.createElement(name);
    made.className = classes;
    within.append(made);
    return made;
  }
  function choices() {
    const tiles = all(".tile:not(.context):not([hidden])", current).map((tile) => [tile.dataset.view, find("figcaption", tile).textContent]);
    const [first, last] = pair.map((run) => tiles.find(([name]) => name === `run${run}`)?.[1]);
    if (wipe) tiles.push(["wipe", `${first} | ${last}`]);
    return tiles;
  }
  function open(card, wanted) {
    current = card;
    const names = choices().map(([name]) => name);
    if (wanted && names.includes(wanted)) view = wanted;
    if (!names.includes(view)) view = names.at(-1);
    find("#inspector-title").textContent = find("h3", card).textContent;
    const scores = all(".scores li", card).map((score) => score.textContent.trim());
    find("#inspector-words").textContent = [card.dataset.kind, card.dataset.image, ...scores].join("  ·  ");
    chips.replaceChildren(chips.firstElementChild);
    choices().forEach(([name, words]) => {
      const label = element("label", "", chips);
      const input = element("input", "", label);
      Object.assign(input, { type: "radio", name: "view", value: name, checked: name === view });
      element("span", "", label).textContent = words;
    });
    show();
    if (!dialog.open) dialog.showModal();
  }
  function layer(view, classes, masked) {
    const tile = find(`.tile[data-view="${view}"]:not([hidden])`, current);
    for (const picture of all(masked ? "img" : "img.photo", tile)) {
      const image = element("img", `${picture.className} ${picture.className === "mask" ? classes : ""}`, stage);
      image.src = pictures[zoomed ? picture.dataset.zoom : picture.dataset.whole];
      image.alt = picture.alt;
    }
  }
  function show() {
    stage.replaceChildren();
    stage.className = `frame ${view === "difference" ? "difference" : ""}`;
    const [, , width, height] = current.dataset.wholeBox.split(" ").map(Number);
    stage.style.setProperty("--ratio", `${width}/${height}`);
    stage.style.setProperty("--wide", width / height);
    if (view === "wipe") {
      const runs = pair.map((run) => `run${run}`);
      layer(runs[0], "first", true);
      layer(runs[1], "last", true);
      all(".photo", stage)[1].remove();
      element("div", "handle", stage);
      runs.forEach((run, index) => {
        element("span", `side ${index ? "right" : "left"}`, stage).textContent = find(`.tile.${run} figcaption`, current).textContent;
      });
      stage.style.setProperty("--wipe", `${wipe.value}%`);
    } else {
      layer(view, "", true);
    }
    const marks = find(".tile:not(.context) .marks", current);
    if (marks) {
      const copy = marks.cloneNode(true);
      copy.setAttribute("viewBox", zoomed ? current.dataset.zoomBox : current.dataset.wholeBox);
      stage.append(copy);
    }
    const visible = openable();
    find("#position").textContent = `${visible.indexOf(current) + 1} / ${visible.length}`;
    if (wipe) wipe.closest("label").style.visibility = view === "wipe" ? "visible" : "hidden";
  }
  function look(name) {
    const input = all("input", chips).find((choice) => choice.value === name);
    if (!input) return;
    input.checked = true;
    view = name;
    show();
  }
  function turn(by) {
    const visible = openable();
    const next = visible[visible.indexOf(current) + by];
    if (next) open(next);
  }
  function flipLarge() {
    const runs = pair.map((run) => `run${run}`);
    if (wipe) look(view === runs[0] ? runs[1] : runs[0]);
  }
  function drag(event) {
    if (view !== "wipe" || !(event.buttons & 1)) return;
    const box = stage.getBoundingClientRect();
    wipe.value = (100 * (event.clientX - box.left)) / box.width;
    stage.style.setProperty("--wipe", `${wipe.value}%`);
  }

  list.addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (event.target.closest(".open")) open(card);
    else if (event.target.closest(".tile")) open(card, event.target.closest(".tile").dataset.view);
  });
  chips.addEventListener("change", (event) => look(event.target.value));
  wipe?.addEventListener("input", () => stage.style.setProperty("--wipe", `${wipe.value}%`));
  stage.addEventListener("pointerdown", drag);
  stage.addEventListener("pointermove", drag);
  stage.addEventListener("dragstart", (event) => event.preventDefault());
  find("#views").addEventListener("submit", (event) => event.preventDefault());
  find("#inspector-zoom")?.addEventListener("click", zoom);
  find("#previous").addEventListener("click", () => turn(-1));
  find("#next").addEventListener("click", () => turn(1));
  find("#close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => {
    find(".open", current).focus({ preventScroll: true });
    current.scrollIntoView({ block: "nearest" });
  });

  // ---- the class under the pointer, read from the picture itself
  const pointed = find("#pointed");
  const names = new Map();
  for (const [name, colour] of JSON.parse(find("#colours")?.textContent ?? "[]")) {
    names.set(colour, names.has(colour) ? `${names.get(colour)} or ${name}` : name);
  }
  const pixels = new WeakMap();
  function pixelsOf(picture) {
    if (!pixels.has(picture) || pixels.get(picture).src !== picture.src) {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(picture, 0, 0);
      pixels.set(picture, { src: picture.src, context });
    }
    return pixels.get(picture).context;
  }
  function point(event) {
    const picture = event.target;
    const masked = pointed && picture.matches?.(".mask") && picture.naturalWidth && !picture.closest(".difference");
    if (pointed) pointed.hidden = !masked;
    if (!masked) return;
    const box = picture.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * picture.naturalWidth);
    const y = Math.floor(((event.clientY - box.top) / box.height) * picture.naturalHeight);
    const [red, green, blue, opaque] = pixelsOf(picture).getImageData(x, y, 1, 1).data;
    const colour = `#${[red, green, blue].map((part) => part.toString(16).padStart(2, "0")).join("")}`;
    pointed.textContent = opaque === 255 ? names.get(colour) ?? "void" : "void";
    pointed.style.left = `${Math.min(event.clientX + 14, innerWidth - pointed.offsetWidth - 8)}px`;
    pointed.style.top = `${Math.min(event.clientY + 18, innerHeight - pointed.offsetHeight - 8)}px`;
    // above the large picture, which covers the page
    (dialog.open ? dialog : find("#cases")).append(pointed);
  }
  document.addEventListener("pointermove", point);

  // ---- keys
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, [type=range]")) return;
    const key = event.key.toLowerCase();
    const onRadio = event.target.matches("[type=radio]");
    const actions = dialog.open
      ? { f: flipLarge, z: zoom, o: outline, t: switchTheme, arrowleft: () => turn(-1), arrowright: () => turn(1) }
      : { f: flip, z: zoom, o: outline, t: switchTheme, j: () => step(1), k: () => step(-1) };
    let action = actions[key];
    if (dialog.open && /^[1-9]$/.test(key)) action = () => look(choices()[key - 1]?.[0]);
    if (!action || (onRadio && key.startsWith("arrow"))) return;
    event.preventDefault();
    action();
  });
  choose();
})();
