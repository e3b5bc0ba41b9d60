// A prompt with its images in place and its completions, for every page that shows what a model said.
const cards = (data) => {
  const { drawn, element, number, signed } = page;
  const known = (value) => value !== null && value !== undefined;

  function imageTitle(group, index) {
    const image = group.images[index];
    return "image " + (index + 1) + (image && image.name ? ", " + image.name : "");
  }

  // Right or wrong is what the reward called accuracy says; without one there is no verdict.
  function isRight(completion) {
    const score = completion.rewards.accuracy;
    return known(score) ? score >= 0.5 : null;
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
    if (known(advantage)) pick.append(element("span", "advantage " + (advantage > 0 ? "up" : advantage < 0 ? "down" : ""), "adv " + signed(advantage)));
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

  return { completionCard, imageTitle, isRight, prompt, select };
};
