// A prompt with its images in place and its completions, for every page that shows what a model said.
const cards = (data) => {
  const { drawn, element, known, number, signed } = page;

  function imageTitle(group, index) {
    const image = group.images[index];
    return "image " + (index + 1) + (image && image.name ? ", " + image.name : "");
  }

  const deciding = data.verdict !== null ? [data.verdict] : data.gained || [];

  // Right or wrong is what one reward says: the verdict, or that of the rollout's own environment. Without it nothing is marked.
  function isRight(completion) {
    const score = deciding.map((name) => completion.rewards[name]).find(known);
    if (!known(score)) return null;
    return data.verdict === null ? score > 0 : score >= 0.5;
  }

  // The sample's id and its line; one of the two where the data gives no ids.
  function titles(group) {
    const line = element("span", "where", group.source.split(/[\\/]/).pop());
    line.title = group.source;
    return group.id === group.source ? [element("h3", "", line.textContent)] : [element("h3", "", group.id), ...(group.source ? [line] : [])];
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
    figure.append(picture(group, image, index));
    const caption = element("figcaption");
    caption.append(element("b", "", "image " + (index + 1)));
    const words = [image.name, image.note, image.size[0] + " × " + image.size[1] + " px"].filter(Boolean);
    caption.append(" · " + words.join(" · "));
    if (expectedImages(group).includes(index)) caption.append(" ", element("span", "target", "expected"));
    if (group.asked.includes(index)) caption.append(" ", element("span", "target asked", "asked about"));
    caption.title = image.file;
    figure.append(caption);
    if (group.completions.some((completion) => blamed(group, completion).length)) figure.append(faults(group, index));
    figure.append(quotes(group, index));
    return figure;
  }

  const numbers = (ks) => ks.flatMap((k) => [element("span", "number n" + (k % 8), k + 1), " "]);

  // Empty where no wrong answer has to do with this image, so that the images of a prompt keep one height.
  function faults(group, index) {
    const wrong = group.completions.map((_, k) => k).filter((k) => blamed(group, group.completions[k]).includes(index));
    const [chosen, missed] = [true, false].map((way) => wrong.filter((k) => meant(group.completions[k]).includes(index) === way));
    const line = element("div", "faults", wrong.length ? "" : "\u00a0");
    if (chosen.length) line.append("wrongly chosen by ", ...numbers(chosen));
    if (missed.length) line.append("answered wrongly by ", ...numbers(missed));
    return line;
  }

  // What the completions say of this image, each wording once, for the reader's eyes to judge.
  function quotes(group, index) {
    const found = new Map();
    group.completions.forEach((completion, k) => {
      for (const [image, quote] of completion.says) {
        const key = quote.toLowerCase();
        if (image === index) found.set(key, [quote, [...(found.get(key) || [null, []])[1], k]]);
      }
    });
    const list = element("ul", "quotes");
    list.setAttribute("aria-label", "Said of " + imageTitle(group, index));
    for (const [quote, ks] of found.values()) {
      const item = element("li", "", "\u201c" + quote + "\u201d ");
      item.append(...numbers([...new Set(ks)]));
      list.append(item);
    }
    if (!list.childNodes.length) list.hidden = true;
    return list;
  }

  const boxed = (boxes) => boxes.map((box) => box.image).filter((index) => known(index) && index >= 0);
  const expectedImages = (group) => [...new Set([...group.answerCites, ...boxed(group.answerBoxes)])].filter((index) => index >= 0);
  const meant = (completion) => [...new Set([...completion.cites, ...boxed(completion.boxes)])];

  // The images that a wrong answer is put down to: those it names instead of the expected ones, or else those asked about.
  function blamed(group, completion) {
    if (isRight(completion) !== false || completion.answered === null) return [];
    const expected = expectedImages(group);
    const taken = meant(completion).filter((index) => index >= 0 && !expected.includes(index));
    if (taken.length || completion.cites.includes(-1)) return taken;
    return expected.length ? expected : group.asked;
  }

  // A stretch of text; where it speaks of an image, pointing at it or focusing it marks that image.
  function stretch(kind, text, images) {
    if (!images) return element("span", kind, text);
    const there = images.filter((index) => index >= 0);
    const node = element("button", "mention " + kind + (there.length ? "" : " nowhere"), text);
    node.type = "button";
    node.title = there.length ? there.map((index) => "image " + (index + 1)).join(", ") : "there is no such image";
    const mark = (on) => figures(node, there).forEach((figure) => figure.classList.toggle("pointed", on));
    /** @type {[boolean, string[]][]} */
    const changes = [[true, ["pointerenter", "focus"]], [false, ["pointerleave", "blur"]]];
    for (const [on, names] of changes) {
      for (const name of names) node.addEventListener(name, () => mark(on));
    }
    node.addEventListener("click", () => figures(node, there)[0]?.scrollIntoView({ block: "center", inline: "center" }));
    return node;
  }

  // The figures of images in the card of a mention; an image that arrived is that of one completion.
  function figures(node, indices) {
    const card = node.closest(".group"), own = node.closest(".completion");
    const all = indices.flatMap((index) => (card ? [...card.querySelectorAll('.marker[data-image="' + index + '"]')] : []));
    return all.filter((figure) => [null, own].includes(figure.closest(".completion")));
  }

  // A sentence of the page itself; each "image 3" in it leads to this image.
  function linked(sentence) {
    return sentence.split(/(image \d+)/).map((part, k) => (k % 2 ? stretch("", part, [Number(part.slice(6)) - 1]) : part));
  }

  function picture(group, image, index) {
    const shapes = expectedShapes(group, index);
    group.completions.forEach((completion, k) => {
      for (const box of completion.boxes.filter((box) => box.image === index)) {
        const shape = rectangle(box, "box k" + (k % 8));
        shape.dataset.completion = k;
        shapes.push(shape);
      }
    });
    return zoomable(image, imageTitle(group, index), shapes);
  }

  const expectedShapes = (group, index) =>
    group.answerBoxes.filter((box) => box.image === index).flatMap((box) => [rectangle(box, "box halo"), rectangle(box, "box expected")]);

  // An image under shapes, larger after a click; one that the page does not hold is a note.
  function zoomable(image, title, shapes) {
    if (typeof image.thumb !== "number") return element("div", "gone", image.file + " " + image.thumb);
    const zoom = element("button", "zoom");
    zoom.type = "button";
    zoom.setAttribute("aria-pressed", "false");
    zoom.setAttribute("aria-label", "Enlarge " + title);
    if (Math.max(...image.size) <= 128) zoom.classList.add("tiny");
    const img = element("img");
    img.src = data.images[image.thumb];
    img.alt = title + (image.note ? ", " + image.note : "");
    img.width = image.size[0];
    img.height = image.size[1];
    const overlay = drawn("svg", { viewBox: "0 0 " + image.size.join(" "), preserveAspectRatio: "none", "aria-hidden": "true" });
    overlay.append(...shapes);
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
      for (const piece of pieces) {
        if (typeof piece === "number") said.append(marker(group, piece));
        else if (typeof piece === "string") said.append(element("span", "", piece));
        else said.append(...piece.map(([, text, images]) => stretch("", text, images)));
      }
      turn.append(element("div", "role", role), role === "system" && said.textContent.includes("<tools>\n") ? folded(said) : said);
      block.append(turn);
    }
    return block;
  }

  // A long message that is the same in every prompt, such as the list of tools.
  function folded(said) {
    const details = element("details", "said");
    details.append(element("summary", "", "the list of tools that the model sees"), said);
    return details;
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
    if (known(advantage)) pick.append(element("span", "advantage " + (advantage > 0 ? "up" : advantage < 0 ? "down" : ""), "adv " + signed(advantage)));
    if (choose) pick.addEventListener("click", () => choose(k));
    if (completion.turns) {
      card.classList.add("trajectory");
      pick.append(element("span", "", turns.facts(completion)));
    }
    const text = completion.turns ? turns.strip(group, completion, k) : spoken(completion, k);
    const scores = element("div", "scores");
    for (const name of data.rewards) {
      const item = element("span", "", name + " ");
      item.append(element("b", "", number(completion.rewards[name])));
      const weight = (group.weights || {})[name];
      if (known(weight) && weight !== 1 && known(completion.rewards[name])) item.append(" × " + number(weight));
      scores.append(item);
    }
    scores.append(element("span", "", completion.tokens + " tokens" + (completion.turns ? ", " + completion.allTokens + " with results and images" : "")));
    card.append(pick, text, scores);
    const notes = completionNotes(group, completion);
    if (notes.childNodes.length) card.append(notes);
    return card;
  }

  function spoken(completion, k) {
    const text = element("div", "text");
    text.setAttribute("aria-label", "Completion " + (k + 1));
    text.setAttribute("role", "group");
    const kinds = { thought: "thought", answer: "answered", tag: "tag", cut: "cut", text: "" };
    for (const [kind, part, images] of completion.parts) text.append(stretch(kinds[kind], part, images));
    if (!completion.parts.length) text.append(element("span", "empty", "nothing"));
    return text;
  }

  function completionNotes(group, completion) {
    const notes = element("div", "notes");
    const troubles = completion.turns ? turns.troubles(group, completion) : [];
    const note = (kind, sentence) => {
      const line = element("div", kind);
      line.append(...linked(sentence));
      notes.append(line);
    };
    for (const [turn, text] of troubles) note("bad", "turn " + (turn + 1) + ": " + text);
    const best = Math.max(...group.completions.map((one) => (known(one.total) ? one.total : -Infinity)));
    const worse = isRight(completion) === false ? "wrong" : isRight(completion) === null && completion.total < best ? "less reward than another one" : "";
    if (completion.turns && worse && !turns.failed(troubles)) {
      const departs = turns.departure(group, completion);
      const where = departs ? "; turn " + (departs[0] + 1) + ": " + departs[1] : ": compare what each turn says with the image before it";
      note(worse === "wrong" ? "bad" : "", worse + ", and no turn failed by the record" + where);
    }
    const wrong = blamed(group, completion), named = meant(completion);
    if (isRight(completion) === false && completion.answered === null) notes.append(element("div", "bad", "gives no answer between <answer> and </answer>"));
    if (wrong.length) notes.append(element("div", "bad", verdict(group, completion)));
    else if (listed(group, named)) notes.append(element("div", "", "cites " + listed(group, named)));
    if (named.includes(-1)) notes.append(element("div", "bad", "cites an image that is not there"));
    const many = (kind, one, several) => {
      const count = completion.boxes.filter(kind).length;
      if (count) notes.append(element("div", "bad", count === 1 ? "1 box " + one : count + " boxes " + several));
    };
    many((box) => box.image === null, "does not say in which image it is", "do not say in which images they are");
    many((box) => known(box.image) && box.image < 0, "is in an image that is not there", "are in images that are not there");
    return notes;
  }

  const listed = (group, indices) => indices.filter((index) => index >= 0).map((index) => imageTitle(group, index)).join(" and ");

  function verdict(group, completion) {
    const named = listed(group, meant(completion)), expected = listed(group, expectedImages(group));
    const quote = (text) => "“" + (text.length > 60 ? text.slice(0, 60) + "…" : text) + "”";
    if (expected && named !== expected) return "answers with " + (named || quote(completion.answered)) + "; expected " + expected;
    const about = expected || listed(group, group.asked); // the right image, in which the box or the words are wrong
    const said = named && named !== about ? "answers with " + named : "says " + quote(completion.answered);
    return said + " about " + about + "; expected " + quote(group.answer || "");
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
    const marked = [...meant(completion), ...blamed(group, completion)];
    for (const figure of card.querySelectorAll(".marker")) figure.classList.toggle("cited", on && marked.includes(Number(figure.dataset.image)));
  }

  // Choices that go by right or wrong are off, with the reason, where no reward says it.
  function needVerdict(select, choices) {
    for (const option of select.options) {
      if (deciding.length || !choices.includes(option.value)) continue;
      option.disabled = true;
      option.textContent += " (no reward says it: --verdict)";
    }
  }

  const imageOf = (group, completion, index) => (index < group.images.length ? group.images[index] : completion.images[index - group.images.length]);
  const turns = strips(data, { expectedImages, expectedShapes, imageOf, imageTitle, isRight, linked, rectangle, stretch, zoomable });

  return { completionCard, imageTitle, isRight, needVerdict, prompt, select, titles, turns };
};
