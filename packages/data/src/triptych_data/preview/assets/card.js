// One row of the data as a card: error, budget, prompt with its images in place, answer, further columns.
const card = (() => {
  const { element } = page;
  const words = (value) => value.toLocaleString("en");
  const times = (size) => words(size[0]) + " × " + words(size[1]);
  const drawnSize = (image) => image.model_size || image.size;

  function tokenWords(image) {
    return image.tokens === undefined ? "" : words(image.tokens) + (image.tokens === 1 ? " token" : " tokens");
  }

  function description(row, k) {
    const image = row.images[k], size = drawnSize(image);
    const parts = ["image " + (k + 1) + " of " + row.images.length, image.name, size && size.join(" x "), tokenWords(image)];
    return parts.filter(Boolean).join(", ");
  }

  // A text, or [its beginning, how many characters are left out].
  function writeText(node, piece) {
    if (typeof piece === "string") return node.append(piece);
    node.append(piece[0], element("span", "cut", " … " + words(piece[1]) + " more characters"));
  }

  // ---- one image at its marker
  function marker(row, k, annotation, picture, open) {
    const image = row.images[k];
    const figure = element("figure", "marker");
    figure.dataset.image = k;
    figure.append(image.picture === null ? absent(image) : button(row, k, picture, open));
    const caption = element("figcaption");
    caption.append(element("b", "", "image " + (k + 1)));
    const size = drawnSize(image);
    for (const about of [image.name, size && times(size), tokenWords(image)].filter(Boolean)) {
      caption.append(" · ", element("span", about === image.name ? "" : "whole", about));
    }
    if (annotation) caption.append(element("span", "line", "“" + annotation + "”"));
    if (image.model_size && image.size && image.model_size.join() !== image.size.join()) caption.append(element("span", "line", "from " + times(image.size)));
    else if (!image.model_size && image.tokens !== undefined) caption.append(element("span", "line", "as decoded; the processor has a rule of its own"));
    for (const note of image.notes || []) caption.append(element("span", "line note", note));
    caption.title = image.file;
    figure.append(caption);
    return figure;
  }

  function absent(image) {
    const box = element("div", image.error ? "gone bad" : "gone");
    const size = drawnSize(image);
    if (size) {
      box.style.width = Math.max(size[0], 190) + "px";
      box.style.aspectRatio = size.join(" / ");
    }
    box.append(element("span", "", image.error ? image.error : "not embedded: the page's budget is used up"), element("span", "path", image.file));
    return box;
  }

  function button(row, k, picture, open) {
    const image = row.images[k], size = drawnSize(image);
    const zoom = element("button", "zoom");
    zoom.type = "button";
    zoom.setAttribute("aria-haspopup", "dialog");
    const img = element("img");
    img.src = picture(image.picture);
    img.alt = description(row, k);
    [img.width, img.height] = size;
    img.style.aspectRatio = size.join(" / ");
    zoom.append(img);
    zoom.addEventListener("click", () => open(row, k));
    return zoom;
  }

  // ---- tokens against their limits
  function budget(name, parts, limit, scale) {
    const total = parts.reduce((sum, part) => sum + part[1], 0);
    const over = limit !== null && total > limit;
    const line = element("div", over ? "budget over" : "budget");
    const track = element("span", "track");
    for (const [kind, value] of parts) {
      const piece = element("i", kind);
      piece.style.width = (100 * value) / scale + "%";
      track.append(piece);
    }
    if (limit !== null) {
      const mark = element("i", "limit");
      mark.style.left = "min(" + (100 * limit) / scale + "%, 100% - 2px)";
      track.append(mark);
    }
    const text = element("span", "budget-text");
    parts.forEach(([kind, value], k) => {
      if (parts.length > 1) text.append(k ? " + " : "", element("i", "key " + kind), words(value) + " " + kind);
    });
    text.append(parts.length > 1 ? " = " : "", words(total) + (limit === null ? " tokens" : " of at most " + words(limit)));
    if (over) text.append(", " + words(total - limit) + " over");
    track.setAttribute("role", "img");
    track.setAttribute("aria-label", name + ": " + text.textContent);
    line.append(element("span", "budget-name", name), track, text);
    return line;
  }

  function budgets(row, index) {
    const block = element("div", "budgets");
    const [images, all] = row.tokens, [promptLimit, imageLimit] = index.limits;
    const scale = Math.max(promptLimit === null ? index.longest : promptLimit, all, 1);
    block.append(budget("prompt", [["image", images], ["text", all - images]], promptLimit, scale));
    if (imageLimit !== null) block.append(budget("images", [["image", images]], imageLimit, Math.max(imageLimit, images, 1)));
    return block;
  }

  // The list of tools, which all rows with the same tools share.
  function toolList([message, text]) {
    const turn = element("div", "turn"), said = element("details", "said tools"), list = element("pre");
    writeText(list, text);
    said.append(element("summary", "", "the list of tools that the model sees"), list);
    turn.append(element("div", "role", message), said);
    return turn;
  }

  // ---- the prompt, images in place
  function prompt(row, index, picture, open) {
    const block = element("div", "prompt");
    if (row.tools !== undefined) block.append(toolList(index.tools[row.tools]));
    let number = 0, reply = 0;
    for (const [role, pieces] of row.turns) {
      const turn = element("div", "turn"), said = element("div", "said");
      if (row.trained && role === "assistant") { // what its tokens spell, with the token that ends the turn
        const text = element("mark", "trained");
        writeText(text, row.trained[reply++]);
        said.append(text);
      } else for (const piece of pieces) {
        if (typeof piece === "number") said.append(marker(row, piece, (row.annotations || [])[number++], picture, open));
        else {
          const text = element("span");
          writeText(text, piece);
          said.append(text);
        }
      }
      turn.append(element("div", "role", role), said);
      block.append(turn);
    }
    return block;
  }

  function columns(title, fields, open) {
    const details = element("details", "columns"), list = element("dl");
    details.open = open;
    for (const [name, value] of fields) {
      const text = element("dd");
      writeText(text, value);
      list.append(element("dt", "", name), text);
    }
    details.append(element("summary", "", title), list);
    return details;
  }

  function head(row, number, link) {
    const bar = element("div", "head");
    const title = element("h3"), anchor = element("a", "", "Row " + words(number + 1) + (row.id ? " · " + row.id : ""));
    anchor.href = link;
    title.append(anchor);
    const where = element("span", "where", row.source.split(/[\\/]/).pop());
    where.title = row.source;
    bar.append(title, where);
    const push = element("div", "push");
    if (row.error) push.append(element("span", "badge down", "refused"));
    for (const note of row.notes || []) push.append(element("span", "badge flat", note));
    if (row.images) push.append(element("span", "badge", row.images.length === 1 ? "1 image" : row.images.length + " images"));
    if (row.tokens) push.append(element("span", "badge", words(row.tokens[1]) + " tokens"));
    bar.append(push);
    return bar;
  }

  // `picture` gives the data URI of a number, `open` shows an image of a row large, `link` is the address of the row.
  return { description, drawnSize, times, words, draw(row, number, index, { picture, open, link }) {
    const node = element("article", row.error ? "group refused" : "group");
    node.setAttribute("aria-label", "Row " + (number + 1) + (row.id ? ", " + row.id : ""));
    node.dataset.row = number;
    node.append(head(row, number, link));
    if (row.error) node.append(element("p", "error", row.error));
    if (row.repeats) node.append(element("p", "remark", "repeats " + row.repeats));
    if (row.tokens) node.append(budgets(row, index));
    if (row.turns) {
      node.append(prompt(row, index, picture, open));
      if (!row.trained) {
        const answer = element("div", "answer");
        answer.append(element("span", "", "answer"));
        if (row.answer === null) answer.classList.add("missing");
        writeText(answer, row.answer === null ? "none in this row" : row.answer);
        node.append(answer);
      }
      if (row.extras.length) node.append(columns(row.extras.length === 1 ? "1 further column" : row.extras.length + " further columns", row.extras, false));
    } else if (row.values.length) node.append(columns("The row as it stands", row.values, true));
    return node;
  } };
})();
