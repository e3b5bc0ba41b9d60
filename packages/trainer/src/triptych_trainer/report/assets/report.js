(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE_SIZE = 8;
  const { byId, drawn, element, fill, number, reachable, signed } = page;
  const state = { page: 0 };
  const sampleKey = (group) => group.mode + "\n" + group.id;
  const visitsOf = Map.groupBy ? Map.groupBy(data.groups, sampleKey) : data.groups.reduce(
    (map, group) => map.set(sampleKey(group), [...(map.get(sampleKey(group)) || []), group]), new Map());

  function imageTitle(group, index) {
    const image = group.images[index];
    return "image " + (index + 1) + (image && image.name ? ", " + image.name : "");
  }

  // Right or wrong is what the reward called accuracy says; without one there is no verdict.
  function isRight(completion) {
    const score = completion.rewards.accuracy;
    return score === null || score === undefined ? null : score >= 0.5;
  }

  // ---- one image at its marker
  function marker(group, index) {
    const image = group.images[index];
    const figure = element("figure", "marker");
    figure.dataset.image = index;
    if (!image) {
      figure.append(element("div", "gone", "image " + (index + 1) + " is not in the record"));
      return figure;
    }
    if (typeof image.thumb === "number") figure.append(picture(group, image, index));
    else figure.append(element("div", "gone", image.file + " " + image.thumb));
    const caption = element("figcaption");
    caption.append(element("b", "", "image " + (index + 1)));
    const words = [image.name, image.note, image.size[0] + " × " + image.size[1] + " px"].filter(Boolean);
    caption.append(" · " + words.join(" · "));
    if (group.answerCites.includes(index)) caption.append(" ", element("span", "target", "expected"));
    caption.title = image.file;
    figure.append(caption);
    return figure;
  }

  function picture(group, image, index) {
    const zoom = element("button", "zoom");
    zoom.type = "button";
    zoom.setAttribute("aria-pressed", "false");
    zoom.setAttribute("aria-label", "Enlarge " + imageTitle(group, index));
    if (Math.max(...image.size) <= 128) zoom.classList.add("tiny");
    const img = element("img");
    img.src = data.images[image.thumb];
    img.alt = imageTitle(group, index) + (image.note ? ", " + image.note : "");
    img.width = image.size[0];
    img.height = image.size[1];
    const overlay = drawn("svg", { viewBox: "0 0 " + image.size.join(" "), preserveAspectRatio: "none", "aria-hidden": "true" });
    for (const box of group.answerBoxes.filter((box) => box.image === index)) {
      overlay.append(rectangle(box, "box halo"), rectangle(box, "box expected"));
    }
    group.completions.forEach((completion, k) => {
      for (const box of completion.boxes.filter((box) => box.image === index)) {
        const shape = rectangle(box, "box k" + (k % 8));
        shape.dataset.completion = k;
        overlay.append(shape);
      }
    });
    zoom.append(img, overlay);
    zoom.addEventListener("click", () => zoom.setAttribute("aria-pressed", String(zoom.getAttribute("aria-pressed") !== "true")));
    return zoom;
  }

  function rectangle(box, className) {
    const [x1, y1, x2, y2] = box.corners;
    const shape = drawn("rect", {
      class: className, x: Math.min(x1, x2), y: Math.min(y1, y2), width: Math.abs(x2 - x1), height: Math.abs(y2 - y1),
    });
    if (box.label) {
      const title = drawn("title", {});
      title.textContent = box.label;
      shape.append(title);
    }
    return shape;
  }

  // ---- the prompt, images in place
  function prompt(group) {
    const block = element("div", "prompt");
    for (const [role, pieces] of group.prompt) {
      const turn = element("div", "turn");
      const said = element("div", "said");
      for (const piece of pieces) said.append(typeof piece === "number" ? marker(group, piece) : element("span", "", piece));
      turn.append(element("div", "role", role), said);
      block.append(turn);
    }
    return block;
  }

  // ---- one completion
  function completionCard(group, completion, k, choose) {
    const card = element("article", "completion");
    card.dataset.completion = k;
    const pick = element("button", "pick");
    pick.type = "button";
    pick.setAttribute("aria-pressed", "false");
    pick.append(element("span", "number n" + (k % 8), k + 1));
    const right = isRight(completion);
    if (right !== null) pick.append(element("span", "verdict " + (right ? "right" : "wrong"), right ? "✓ right" : "✗ wrong"));
    pick.append(element("span", "", "reward " + number(completion.total)));
    const advantage = completion.advantage;
    pick.append(element("span", "advantage " + (advantage > 0 ? "up" : advantage < 0 ? "down" : ""), "adv " + signed(advantage)));
    if (choose) pick.addEventListener("click", () => choose(k));
    const text = element("div", "text");
    text.setAttribute("aria-label", "Completion " + (k + 1));
    text.setAttribute("role", "group");
    const kinds = { thought: "thought", answer: "answered", tag: "tag", cut: "cut", text: "" };
    for (const [kind, part] of completion.parts) text.append(element("span", kinds[kind], part));
    if (!completion.parts.length) text.append(element("span", "empty", "nothing"));
    const scores = element("div", "scores");
    for (const name of data.rewards) {
      const item = element("span", "", name + " ");
      item.append(element("b", "", number(completion.rewards[name])));
      scores.append(item);
    }
    scores.append(element("span", "", completion.tokens + " tokens"));
    card.append(pick, text, scores);
    const notes = completionNotes(group, completion);
    if (notes.childNodes.length) card.append(notes);
    return card;
  }

  function completionNotes(group, completion) {
    const notes = element("div", "notes");
    if (completion.cites.length) {
      const known = completion.cites.filter((index) => index >= 0).map((index) => imageTitle(group, index));
      if (known.length) notes.append(element("div", "", "cites " + known.join(" and ")));
      if (completion.cites.includes(-1)) notes.append(element("div", "bad", "cites an image that is not there"));
    }
    const lost = completion.boxes.filter((box) => box.image === null || box.image < 0).length;
    if (lost) notes.append(element("div", "bad", lost + (lost === 1 ? " box is" : " boxes are") + " in no image of this prompt"));
    return notes;
  }

  // ---- one group
  function groupCard(group) {
    const card = element("article", "group");
    card.setAttribute("aria-label", "Sample " + group.id + ", step " + group.step);
    card.dataset.sample = group.id;
    card.append(head(group), prompt(group));
    if (group.answer !== null) {
      const answer = element("div", "answer");
      answer.append(element("span", "", "expected"), document.createTextNode(group.answer));
      card.append(answer);
    }
    if (data.other) card.append(element("p", "run-name", data.run + ", step " + group.step));
    const completions = element("div", "said-by");
    const choose = (k) => select(card, group, k);
    group.completions.forEach((completion, k) => completions.append(completionCard(group, completion, k, choose)));
    card.append(completions);
    if (group.other) card.append(...otherRun(group));
    return card;
  }

  function otherRun(group) {
    const completions = element("div", "said-by");
    group.other.completions.forEach((completion, k) => completions.append(completionCard(group, completion, k, null)));
    return [element("p", "run-name", data.other + ", step " + group.other.step), completions];
  }

  function head(group) {
    const bar = element("div", "head");
    bar.append(element("h3", "", group.id), stepOf(group));
    if (group.flat) bar.append(element("span", "badge flat", "no variance"));
    if (group.source) {
      const where = element("span", "where", group.source.split(/[\\/]/).pop());
      where.title = group.source;
      bar.append(where);
    }
    const push = element("div", "push");
    if (group.history.length > 1) push.append(spark(group));
    push.append(element("span", "badge", "mean reward " + number(group.mean)));
    if (group.change !== null) push.append(change(group.change, "since first seen"));
    const difference = between(group);
    if (difference !== null) push.append(change(difference, "in " + data.other));
    bar.append(push);
    return bar;
  }

  // The step of this visit; where the page holds other visits to the sample, a way to turn the card to them.
  function stepOf(group) {
    const phase = group.mode === "eval" ? "evaluation at step " : "step ";
    const visits = visitsOf.get(sampleKey(group));
    if (visits.length < 2) return element("span", "badge", phase + group.step);
    const select = element("select");
    select.setAttribute("aria-label", "Visits of sample " + group.id);
    fill(select, visits.map((_, k) => k), (k) => phase + visits[k].step + " (" + (k + 1) + " of " + visits.length + ")");
    select.value = visits.indexOf(group);
    select.addEventListener("input", () => {
      const card = groupCard(visits[Number(select.value)]);
      select.closest(".group").replaceWith(card);
      card.querySelector(".head select").focus();
    });
    return select;
  }

  function change(value, words) {
    const kind = value > 0.005 ? "up" : value < -0.005 ? "down" : "";
    return element("span", "badge " + kind, signed(value) + " " + words);
  }

  function between(group) {
    return group.other && group.other.mean !== null && group.mean !== null ? group.other.mean - group.mean : null;
  }

  // The means of all visits to this sample, this one as a dot.
  function spark(group) {
    const visits = group.history.filter((visit) => visit[1] !== null);
    const steps = visits.map((visit) => visit[0]), means = visits.map((visit) => visit[1]);
    const low = Math.min(...means), range = Math.max(...means) - low || 1;
    const first = steps[0], span = steps[steps.length - 1] - first || 1;
    const x = (step) => 4 + (102 * (step - first)) / span, y = (mean) => 22 - (18 * (mean - low)) / range;
    const words = "Mean reward at steps " + visits.map((visit) => visit[0] + ": " + number(visit[1])).join(", ");
    const svg = drawn("svg", { class: "spark", viewBox: "0 0 110 26", role: "img", "aria-label": words });
    svg.append(drawn("polyline", { class: "line", points: visits.map((visit) => x(visit[0]) + "," + y(visit[1])).join(" ") }));
    const here = visits.find((visit) => visit[0] === group.step);
    if (here) svg.append(drawn("circle", { class: "dot", cx: x(here[0]), cy: y(here[1]), r: 3.5 }));
    return svg;
  }

  // Choosing a completion dims the other boxes and marks the images it cites or draws in; choosing it again frees all.
  function select(card, group, k) {
    const own = card.querySelector(".said-by");
    const chosen = own.querySelector('.completion[data-completion="' + k + '"]');
    const on = !chosen.classList.contains("chosen");
    for (const other of own.querySelectorAll(".completion")) {
      other.classList.toggle("chosen", on && other === chosen);
      other.querySelector(".pick").setAttribute("aria-pressed", String(on && other === chosen));
    }
    for (const shape of card.querySelectorAll(".box[data-completion]")) {
      const mine = shape.dataset.completion === String(k);
      shape.classList.toggle("dim", on && !mine);
      shape.classList.toggle("strong", on && mine);
      if (mine) shape.parentNode.append(shape); // drawn last, on top of the others
    }
    const completion = group.completions[k];
    const meant = new Set([...completion.cites, ...completion.boxes.map((box) => box.image)]);
    for (const figure of card.querySelectorAll(".marker")) figure.classList.toggle("cited", on && meant.has(Number(figure.dataset.image)));
  }

  // ---- filter, order, page
  const last = (value) => (value === null || value === undefined ? -Infinity : value);
  const orders = {
    change: (group) => last(group.change === null ? null : Math.abs(group.change)),
    rise: (group) => last(group.change),
    fall: (group) => last(group.change === null ? null : -group.change),
    newest: (group) => group.step,
    oldest: (group) => -group.step,
    low: (group) => last(group.mean === null ? null : -group.mean),
    spread: (group) => group.spread,
    other: (group) => last(between(group) === null ? null : Math.abs(between(group))),
  };
  const shows = {
    all: () => true,
    mixed: (group) => !group.flat,
    flat: (group) => group.flat,
    wrong: (group) => group.completions.some((completion) => isRight(completion) === false),
    never: (group) => group.completions.every((completion) => isRight(completion) === false),
    boxes: (group) => group.answerBoxes.length > 0 || group.completions.some((completion) => completion.boxes.length > 0),
  };

  function found() {
    const query = byId("query").value.trim().toLowerCase();
    const count = byId("count").value, mode = byId("mode").value;
    const lastOnly = byId("visits").value === "last";
    const kept = data.groups.filter((group) =>
      (!lastOnly || visitsOf.get(sampleKey(group)).at(-1) === group) &&
      (!query || group.id.toLowerCase().includes(query) || group.source.toLowerCase().includes(query)) &&
      shows[byId("show").value](group) &&
      (count === "" || group.images.length === Number(count)) &&
      (mode === "" || group.mode === mode));
    const key = orders[byId("order").value];
    const ties = (a, b) => b.step - a.step;
    return kept.map((group) => [key(group), group]).sort((a, b) => (a[0] === b[0] ? ties(a[1], b[1]) : b[0] - a[0])).map((pair) => pair[1]);
  }

  function render() {
    const groups = found();
    const pages = Math.max(1, Math.ceil(groups.length / PAGE_SIZE));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const shown = groups.slice(state.page * PAGE_SIZE, (state.page + 1) * PAGE_SIZE);
    byId("status").textContent = groups.length + (groups.length === 1 ? " group" : " groups") +
      (groups.length === data.groups.length ? "" : " of " + data.groups.length);
    for (const suffix of ["", "-below"]) {
      byId("page" + suffix).textContent = "Page " + (state.page + 1) + " of " + pages;
      byId("previous" + suffix).disabled = state.page === 0;
      byId("next" + suffix).disabled = state.page === pages - 1;
    }
    byId("list").replaceChildren(...(shown.length ? shown.map(groupCard) : [element("p", "none", "No group fits. Clear the search or choose all groups.")]));
    reachable();
  }

  function turn(by) {
    state.page += by;
    render();
    byId("groups").scrollIntoView();
    byId("groups").focus({ preventScroll: true });
  }

  // A line at the step under the pointer, and the values there in words.
  function readable(panel, curves) {
    const chart = panel.querySelector(".chart"), readout = element("p", "readout");
    const left = Number(chart.dataset.left), right = Number(chart.dataset.right);
    const steps = [...new Set(curves.flatMap((curve) => curve.steps))].sort((a, b) => a - b);
    const first = steps[0], span = steps[steps.length - 1] - first;
    const line = drawn("line", { class: "cursor", y1: 12, y2: 170, visibility: "hidden" });
    chart.append(line);
    chart.after(readout);
    chart.addEventListener("pointermove", (event) => {
      const area = chart.getBoundingClientRect();
      const x = ((event.clientX - area.left) / area.width) * chart.viewBox.baseVal.width;
      const aim = first + (span * (x - left)) / (right - left);
      const step = steps.reduce((best, each) => (Math.abs(each - aim) < Math.abs(best - aim) ? each : best));
      const at = span ? left + ((right - left) * (step - first)) / span : (left + right) / 2;
      line.setAttribute("x1", at);
      line.setAttribute("x2", at);
      line.setAttribute("visibility", "visible");
      const values = curves.filter((curve) => curve.steps.includes(step)).map((curve) => curve.label + " " + number(curve.values[curve.steps.indexOf(step)], 3));
      readout.textContent = "step " + step + ": " + values.join(", ");
    });
    chart.addEventListener("pointerleave", () => { line.setAttribute("visibility", "hidden"); readout.textContent = ""; });
  }

  function start() {
    for (const [key, curves] of Object.entries(data.curves)) readable(byId("panel-" + key), curves);
    const counts = [...new Set(data.groups.map((group) => group.images.length))].sort((a, b) => a - b);
    fill(byId("count"), counts, (count) => (count === 1 ? "1 image" : count + " images"));
    const modes = [...new Set(data.groups.map((group) => group.mode))];
    fill(byId("mode"), modes, (mode) => (mode === "eval" ? "evaluation" : "training"));
    byId("mode-field").hidden = modes.length < 2;
    if (data.other) {
      fill(byId("order"), ["other"], () => "runs differ most");
      byId("order").value = "other";
    } else if (!data.groups.some((group) => group.change !== null && group.change !== 0)) byId("order").value = "newest";
    for (const id of ["query", "show", "visits", "count", "mode", "order"]) {
      byId(id).addEventListener("input", () => { state.page = 0; render(); });
    }
    byId("controls").addEventListener("submit", (event) => event.preventDefault());
    for (const suffix of ["", "-below"]) {
      byId("previous" + suffix).addEventListener("click", () => turn(-1));
      byId("next" + suffix).addEventListener("click", () => turn(1));
    }
    render();
  }
  start();
})();
