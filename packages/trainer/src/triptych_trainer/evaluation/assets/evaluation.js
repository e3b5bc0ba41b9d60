(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE_SIZE = 8;
  const { byId, element, fill, goTo, known, listen, number, showPage, signed } = page;
  const { completionCard, needVerdict, prompt, select, titles } = cards(data);
  const twoModels = "base" in data.names;
  let at = 0;

  function rowCard(group) {
    const card = element("article", "group");
    card.setAttribute("aria-label", "Sample " + group.id);
    card.dataset.sample = group.id;
    card.append(head(group), prompt(group));
    if (group.answer !== null) {
      const answer = element("div", "answer");
      answer.append(element("span", "", "expected"), document.createTextNode(group.answer));
      card.append(answer);
    }
    const sides = element("div", "sides");
    sides.append(side("model", said(group, group.completions, (k) => select(card, group, k))));
    if (group.other) sides.append(side("base", said(group, group.other.completions, null)));
    card.append(sides);
    return card;
  }

  function side(run, completions) {
    const block = element("div", run);
    if (twoModels) block.append(element("p", "run-name", run + ": " + data.names[run]));
    block.append(completions);
    return block;
  }

  function said(group, completions, choose) {
    const list = element("div", "said-by");
    completions.forEach((completion, k) => list.append(completionCard(group, completion, k, choose)));
    return list;
  }

  function head(group) {
    const bar = element("div", "head");
    bar.append(...titles(group));
    const push = element("div", "push");
    push.append(element("span", "badge", data.score + " " + number(group.score)));
    const change = between(group);
    if (change !== null && change !== 0) {
      push.append(element("span", "badge " + (change > 0 ? "up" : "down"), (change > 0 ? "improved " : "regressed ") + signed(change)));
    }
    bar.append(push);
    return bar;
  }

  const between = (group) => (known(group.score) && known(group.baseScore) ? group.score - group.baseScore : null);
  const shows = {
    all: () => true,
    wrong: (group) => known(group.score) && group.score < 0.5,
    regressed: (group) => between(group) < 0,
    improved: (group) => between(group) > 0,
    both: (group) => known(group.score) && known(group.baseScore) && group.score < 0.5 && group.baseScore < 0.5,
  };
  const textOf = (group) => [group.id, group.source, group.answer, ...group.prompt.map((turn) => turn[1].map((piece) => (typeof piece === "string" ? piece : typeof piece === "number" ? " " : piece.map((part) => part[1]).join(""))).join("")),
    ...group.completions.map((completion) => completion.parts.map((part) => part[1]).join(""))].join("\n").toLowerCase();

  function found() {
    const query = byId("query").value.trim().toLowerCase();
    const [slicing, slice] = byId("slice").value ? JSON.parse(byId("slice").value) : [];
    return data.groups.filter((group) => shows[byId("show").value](group) &&
      (slicing === undefined || group.slices[slicing] === slice) && (!query || textOf(group).includes(query)));
  }

  function render() {
    at = showPage(found(), at, { size: PAGE_SIZE, total: data.groups.length, name: "row", draw: rowCard });
  }

  function turn(by) {
    at += by;
    render();
    goTo(byId("rows"));
  }

  function start() {
    if (twoModels) {
      const words = { regressed: "regressed: worse than the base", improved: "improved on the base", both: "wrong in both" };
      fill(byId("show"), Object.keys(words), (key) => words[key]);
    }
    needVerdict(byId("show"), ["wrong", "both"]);
    const slices = page.all(".slice").map((button) => [button.dataset.slicing, button.dataset.slice]);
    const unique = [...new Set(slices.filter(([slicing]) => slicing !== "all").map((pair) => JSON.stringify(pair)))];
    fill(byId("slice"), unique, (text) => JSON.parse(text).join(" = "));
    listen(["query", "show", "slice"], { turn, changed: () => { at = 0; render(); } });
    for (const button of page.all(".slice")) {
      button.addEventListener("click", () => {
        byId("slice").value = button.dataset.slicing === "all" ? "" : JSON.stringify([button.dataset.slicing, button.dataset.slice]);
        at = 0;
        turn(0);
      });
    }
    render();
  }
  start();
})();
