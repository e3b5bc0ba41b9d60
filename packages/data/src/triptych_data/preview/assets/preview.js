// Filters, order, pages, keyboard and address; only the rows of one page are ever in the document.
(() => {
  const { byId, fill, goTo, listen, showPage } = page;
  const PAGE_SIZE = 10, KEPT_BLOCKS = 12;
  const index = JSON.parse(byId("index").textContent);
  const total = index.images.length;
  const fields = ["query", "images", "problem", "order", "draw"];
  const state = { page: 0, row: null };
  let matches = [];

  // ---- blocks of rows and of pictures, parsed when one of theirs is wanted; the last few are kept
  function block(name, k) {
    return JSON.parse(byId(name + "-" + k).textContent);
  }

  function reader(name, starts) {
    const kept = new Map();
    return (number) => {
      let low = 0, high = starts.length - 1;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (starts[middle] <= number) low = middle;
        else high = middle - 1;
      }
      const parsed = kept.get(low) || block(name, low);
      kept.delete(low);
      kept.set(low, parsed);
      if (kept.size > KEPT_BLOCKS) kept.delete(kept.keys().next().value);
      return parsed[number - starts[low]];
    };
  }
  const rowAt = reader("rows", index.rowStarts), pictureAt = reader("pictures", index.pictureStarts);

  // ---- texts to search, made block by block while nothing else is to do
  const texts = [];
  let textBlocks = 0;
  const plain = (piece) => (typeof piece === "string" ? piece : Array.isArray(piece) ? piece[0] : "");
  function searchable(row) {
    const said = (row.turns || []).flatMap((turn) => turn[1].map(plain));
    const further = row.turns ? [plain(row.answer)] : row.values.map((pair) => plain(pair[1]));
    return [row.id, row.source, ...said, ...further].join("\n").toLowerCase();
  }
  // Safari has no requestIdleCallback: there one block is read at a time.
  const whenIdle = window.requestIdleCallback || ((work) => {
    let turns = 1;
    setTimeout(() => work({ didTimeout: false, timeRemaining: () => (turns-- > 0 ? 8 : 0) }), 20);
  });
  function readTexts(deadline) {
    while (textBlocks < index.rowStarts.length && (!deadline || deadline.timeRemaining() > 4)) {
      for (const row of block("rows", textBlocks)) texts.push(searchable(row));
      textBlocks += 1;
    }
    if (deadline && textBlocks < index.rowStarts.length) whenIdle(readTexts);
  }

  // ---- filter and order
  const refused = new Set(index.problems.flatMap((name, k) => (name.startsWith("refused: ") ? [k] : [])));
  function problemTest(choice) {
    if (choice === "") return () => true;
    if (choice === "*") return (n) => index.rowProblems[n].length > 0;
    if (choice === "-") return (n) => index.rowProblems[n].length === 0;
    if (choice === "refused") return (n) => index.rowProblems[n].some((k) => refused.has(k));
    const wanted = index.problems.indexOf(choice);
    return (n) => index.rowProblems[n].includes(wanted);
  }
  const orders = {
    most: (n) => -index.tokens[n],
    fewest: (n) => index.tokens[n] || Infinity,
    "most-image": (n) => -index.imageTokens[n],
    "most-images": (n) => -index.images[n],
  };
  function find() {
    const query = byId("query").value.trim().toLowerCase(), count = byId("images").value;
    const fits = problemTest(byId("problem").value);
    if (query) readTexts();
    matches = [];
    for (let n = 0; n < total; n += 1) {
      if ((count === "" || index.images[n] === Number(count)) && fits(n) && (!query || texts[n].includes(query))) matches.push(n);
    }
    const key = orders[byId("order").value];
    if (key) matches.sort((a, b) => key(a) - key(b) || a - b);
  }

  // ---- one page of rows
  function show() {
    byId("list").className = byId("draw").value;
    const tools = (n) => ({ picture: pictureAt, open: openViewer, link: address({ row: n + 1 }) });
    const draw = (n) => card.draw(rowAt(n), n, index, tools(n));
    state.page = showPage(matches, state.page, { size: PAGE_SIZE, total, name: "row", draw });
    for (const bar of page.all(".bar")) {
      bar.setAttribute("aria-pressed", String(byId(bar.dataset.filter).value === bar.dataset.value));
    }
  }

  function turn(by) {
    const before = state.page;
    state.page += by;
    state.row = null;
    show();
    if (state.page === before) return;
    write();
    goTo(byId("rows"));
  }

  // ---- the address keeps the state
  function address(changes) {
    const now = Object.fromEntries(fields.map((id) => [id, byId(id).value]));
    const all = { ...now, page: state.page ? state.page + 1 : "", row: state.row || "", ...changes };
    if (all.row) all.page = "";
    return "#" + new URLSearchParams(Object.entries(all).filter((pair) => pair[1] !== ""));
  }
  function write() {
    history.replaceState(null, "", address({}));
  }
  function read() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const id of fields) {
      byId(id).value = given.get(id) || "";
      if (byId(id).value !== (given.get(id) || "")) byId(id).value = ""; // a choice that this page does not have
    }
    state.page = (Number(given.get("page")) || 1) - 1;
    state.row = Number(given.get("row")) || null;
    find();
    const place = state.row ? matches.indexOf(state.row - 1) : -1;
    if (place >= 0) state.page = Math.floor(place / PAGE_SIZE);
    show();
    const chosen = place >= 0 && document.querySelector('.group[data-row="' + (state.row - 1) + '"]');
    if (chosen) {
      chosen.classList.add("chosen");
      chosen.scrollIntoView();
    }
  }
  function changed() {
    state.page = 0;
    state.row = null;
    find();
    show();
    write();
  }

  // ---- an image large
  const viewer = byId("viewer");
  const looking = { row: null, images: [], at: 0 };
  function openViewer(row, k) {
    looking.row = row;
    looking.images = row.images.flatMap((image, j) => (image.picture === null ? [] : [j]));
    look(looking.images.indexOf(k));
    viewer.showModal();
  }
  function look(at) {
    looking.at = (at + looking.images.length) % looking.images.length;
    const { row } = looking, k = looking.images[looking.at], image = row.images[k], size = card.drawnSize(image);
    const img = byId("viewer-image");
    const scale = Math.min((0.92 * innerWidth) / size[0], (0.76 * innerHeight) / size[1], Math.max(1, 900 / size[0]));
    img.onload = () => {
      const kept = Math.max(img.naturalWidth, img.naturalHeight) < Math.max(...size) ? "kept on this page at " + card.times([img.naturalWidth, img.naturalHeight]) : "";
      const source = image.size && image.model_size ? "source " + card.times(image.size) : "";
      byId("viewer-text").textContent = [image.file, source, kept].filter(Boolean).join(" · ");
    };
    img.src = pictureAt(image.picture);
    img.alt = card.description(row, k);
    img.style.width = size[0] * scale + "px";
    img.style.aspectRatio = size.join(" / ");
    img.className = Math.max(...size) <= 128 ? "tiny" : "";
    byId("viewer-title").textContent = img.alt;
    for (const id of ["viewer-previous", "viewer-next"]) byId(id).hidden = looking.images.length < 2;
  }

  // ---- keyboard
  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { n: 1, ArrowRight: 1, p: -1, ArrowLeft: -1 }[event.key];
    if (viewer.open) {
      if (step) look(looking.at + step);
      return;
    }
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "/") {
      event.preventDefault();
      byId("query").focus();
    } else if (step) turn(step);
  }

  function start() {
    const counts = [...new Set(index.images)].sort((a, b) => a - b);
    fill(byId("images"), counts, (count) => (count === 1 ? "1 image" : count + " images"));
    const order = page.all("#panel-problems .bar").map((bar) => bar.dataset.value);
    fill(byId("problem"), order, (name) => name);
    if (!index.longest) for (const value of ["most", "fewest", "most-image"]) byId("order").querySelector('[value="' + value + '"]').remove();
    listen(fields, { turn, changed });
    for (const bar of page.all(".bar")) {
      bar.addEventListener("click", () => {
        const select = byId(bar.dataset.filter);
        select.value = select.value === bar.dataset.value ? "" : bar.dataset.value;
        changed();
        byId("rows").scrollIntoView();
      });
    }
    // Links within the page move the focus and leave the address to the state.
    for (const link of page.all(".skip, header nav a")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        goTo(document.querySelector(link.getAttribute("href")));
      });
    }
    byId("viewer-close").addEventListener("click", () => viewer.close());
    byId("viewer-previous").addEventListener("click", () => look(looking.at - 1));
    byId("viewer-next").addEventListener("click", () => look(looking.at + 1));
    viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });
    document.addEventListener("keydown", pressed);
    addEventListener("hashchange", read);
    read();
    whenIdle(readTexts);
  }
  start();
})();
