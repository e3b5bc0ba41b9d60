(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE_SIZE = 8;
  const { byId, drawn, element, fill, goTo, known, listen, number, showPage, signed } = page;
  const { completionCard, isRight, needVerdict, prompt, select, titles, turns } = cards(data);
  let at = 0;
  const sampleKey = (group) => group.mode + "\n" + group.key;
  const visitsOf = Map.groupBy ? Map.groupBy(data.groups, sampleKey) : data.groups.reduce(
    (map, group) => map.set(sampleKey(group), [...(map.get(sampleKey(group)) || []), group]), new Map());

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
    const fit = fitting(group);
    group.completions.forEach((completion, k) => fit.includes(completion) && completions.append(completionCard(group, completion, k, choose)));
    if (fit.length < group.completions.length) {
      completions.prepend(element("p", "aside-note", "Shown: the " + fit.length + " of " + group.completions.length + " completions that fit the choices above."));
    }
    card.append(completions);
    if (group.other) card.append(...otherRun(group));
    return card;
  }

  // The completions that fit the choices about turns: all, unless one of those is made.
  function fitting(group) {
    const kind = ofTurns[byId("show").value], count = byId("calls").value, alone = byId("show").value === "alone";
    return group.completions.filter((completion) =>
      (!alone || isRight(completion) === false) &&
      (!kind || (completion.turns && kind(completion, group))) &&
      (count === "" || (completion.turns && numCalls(completion) === Number(count))));
  }

  function otherRun(group) {
    const completions = element("div", "said-by");
    group.other.completions.forEach((completion, k) => completions.append(completionCard(group, completion, k, null)));
    return [element("p", "run-name", data.other + ", step " + group.other.step), completions];
  }

  function head(group) {
    const bar = element("div", "head");
    const [title, ...where] = titles(group);
    bar.append(title, stepOf(group));
    if (group.flat) bar.append(element("span", "badge flat", "no variance"));
    bar.append(...where);
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

  // ---- filter, order, page
  const last = (value) => (known(value) ? value : -Infinity);
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
  const numCalls = (completion) => turns.calls(completion).filter((call) => call.done).length;
  const ofTurns = {
    trouble: (completion, group) => turns.troubles(group, completion).length > 0,
    failing: (completion) => turns.calls(completion).some((call) => call.failed && call.tool),
    unread: (completion) => completion.turns.some((turn) => turn.unread || turn.calls.some((call) => turns.tooLate(completion, call))),
    over: (completion) => completion.finish === "turns",
    short: (completion) => completion.finish === "length" || completion.finish === "room",
  };
  const some = (kind) => (group) => group.completions.some((completion) => completion.turns && kind(completion, group));
  const shows = {
    trouble: some(ofTurns.trouble),
    failing: some(ofTurns.failing),
    unread: some(ofTurns.unread),
    over: some(ofTurns.over),
    short: some(ofTurns.short),
    all: () => true,
    mixed: (group) => !group.flat,
    flat: (group) => group.flat,
    wrong: (group) => group.completions.some((completion) => isRight(completion) === false),
    alone: (group) => shows.wrong(group),
    never: (group) => group.completions.every((completion) => isRight(completion) === false),
    boxes: (group) => group.answerBoxes.length > 0 || group.completions.some((completion) => completion.boxes.length > 0),
  };

  // How many rollouts of a group went wrong in each way.
  const counted = new Map();
  function ways(group) {
    if (!counted.has(group)) {
      const told = group.completions.filter((completion) => completion.turns);
      const counts = new Map();
      for (const [name, kind] of Object.entries(ofTurns)) {
        const count = told.filter((one) => kind(one, group)).length;
        if (count) counts.set(name, count);
      }
      counted.set(group, counts);
    }
    return counted.get(group);
  }

  // The same for all groups that fit the other choices: a button for each way shows its rollouts.
  const wrongWords = { wrong: "wrong, shown with their groups", alone: "wrong, shown alone" };
  function wentWrong(groups) {
    const line = byId("went-wrong"), choice = byId("show");
    const total = groups.flatMap((group) => group.completions).filter((completion) => completion.turns).length;
    line.replaceChildren(total === 1 ? "1 rollout: " : total + " rollouts: ");
    const wrong = groups.flatMap((group) => group.completions).filter((one) => one.turns && isRight(one) === false).length;
    for (const option of choice.options) {
      const isWrong = option.value in wrongWords;
      const count = isWrong ? wrong : groups.reduce((sum, group) => sum + (ways(group).get(option.value) || 0), 0);
      if (!count) continue;
      const button = element("button", "way", count + " × " + (isWrong ? wrongWords[option.value] : option.textContent));
      button.type = "button";
      button.setAttribute("aria-pressed", String(choice.value === option.value));
      button.addEventListener("click", () => {
        choice.value = choice.value === option.value ? "all" : option.value;
        choice.dispatchEvent(new Event("input"));
      });
      line.append(button);
    }
    if (line.childElementCount > (wrong ? 2 : 1)) line.append("One rollout can be in several.");
    if (!line.childElementCount) line.append("in none of them did a turn go wrong in a way that the record shows.");
    else if (wrong && line.childElementCount === 2) line.append("none by a turn that failed: the foot of each says where to look.");
  }

  function found() {
    const query = byId("query").value.trim().toLowerCase();
    const count = byId("count").value, mode = byId("mode").value;
    const lastOnly = byId("visits").value === "last";
    const looked = data.groups.filter((group) =>
      (!lastOnly || visitsOf.get(sampleKey(group)).at(-1) === group) &&
      (!query || group.id.toLowerCase().includes(query) || group.source.toLowerCase().includes(query)) &&
      (count === "" || group.images.length === Number(count)) &&
      (mode === "" || group.mode === mode));
    wentWrong(looked);
    const kept = looked.filter((group) => shows[byId("show").value](group) && fitting(group).length > 0);
    const key = orders[byId("order").value];
    const ties = (a, b) => b.step - a.step;
    return kept.map((group) => [key(group), group]).sort((a, b) => (a[0] === b[0] ? ties(a[1], b[1]) : b[0] - a[0])).map((pair) => pair[1]);
  }

  function render() {
    at = showPage(found(), at, { size: PAGE_SIZE, total: data.groups.length, name: "group", draw: groupCard });
  }

  function turn(by) {
    at += by;
    render();
    goTo(byId("groups"));
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

  // Choices that this run has nothing for: said, or left out.
  function withoutIdle() {
    const visited = [...visitsOf.values()].some((visits) => visits.length > 1) || data.groups.some((group) => group.history.length > 1);
    for (const option of byId("order").options) {
      if (["change", "rise", "fall"].includes(option.value) && !visited) {
        option.disabled = true;
        option.textContent += " (all seen once)";
      }
    }
    byId("visits-field").hidden = !visited;
    needVerdict(byId("show"), ["wrong", "alone", "never"]);
    const boxes = data.groups.some(shows.boxes);
    if (!boxes) byId("show").querySelector('[value="boxes"]').remove();
    byId("about-boxes").hidden = !boxes;
    const told = data.groups.flatMap((group) => group.completions).filter((completion) => completion.turns);
    const happened = (name) => data.groups.some((group) => ways(group).has(name));
    for (const name of Object.keys(ofTurns)) if (!happened(name)) byId("show").querySelector('[value="' + name + '"]').remove();
    byId("calls-field").hidden = !told.length;
    for (const line of page.all(".of-turns")) line.hidden = !told.length;
    fill(byId("calls"), [...new Set(told.map(numCalls))].sort((a, b) => a - b), (count) => (count === 1 ? "1 call" : count + " calls"));
  }

  function start() {
    for (const [key, curves] of Object.entries(data.curves)) readable(byId("panel-" + key), curves);
    const counts = [...new Set(data.groups.map((group) => group.images.length))].sort((a, b) => a - b);
    fill(byId("count"), counts, (count) => (count === 1 ? "1 image" : count + " images"));
    const modes = [...new Set(data.groups.map((group) => group.mode))];
    fill(byId("mode"), modes, (mode) => (mode === "eval" ? "evaluation" : "training"));
    byId("mode-field").hidden = modes.length < 2;
    withoutIdle();
    if (data.other) {
      fill(byId("order"), ["other"], () => "runs differ most");
      byId("order").value = "other";
    } else if (!data.groups.some((group) => group.change !== null && group.change !== 0)) byId("order").value = "newest";
    listen(["query", "show", "visits", "count", "calls", "mode", "order"], { turn, changed: () => { at = 0; render(); } });
    render();
  }
  start();
})();
