// Ask the model: images and texts go to this machine as JSON; what comes back is shown as text and pictures.
(() => {
  const { byId, element } = page;
  const images = []; // { name, data (base64), url }
  let past = []; // the messages of the conversation so far, where it is continued

  // ---- the images
  function list() {
    byId("images").replaceChildren(...images.map((image, k) => {
      const item = element("li"), picture = element("img"), mark = element("button", "", "insert <image:" + (k + 1) + ">"), drop = element("button", "", "remove");
      picture.src = image.url;
      picture.alt = "image " + (k + 1) + ", " + image.name;
      for (const button of [mark, drop]) button.type = "button";
      mark.addEventListener("click", () => insert("<image:" + (k + 1) + ">"));
      drop.addEventListener("click", () => { images.splice(k, 1); list(); });
      item.append(picture, element("span", "", "image " + (k + 1) + " · " + image.name), mark, drop);
      return item;
    }));
  }

  function insert(marker) {
    const text = byId("text");
    text.setRangeText(marker, text.selectionStart, text.selectionEnd, "end");
    text.focus();
  }

  function read(file) {
    return new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => {
        const url = String(reader.result);
        resolve({ name: file.name, url, data: url.slice(url.indexOf(",") + 1) });
      };
      reader.onerror = () => reject(reader.error);
      reader.readAsDataURL(file);
    });
  }

  async function take(files) {
    for (const file of files) images.push(await read(file));
    list();
  }

  byId("files").addEventListener("change", async (event) => {
    await take(event.target.files);
    event.target.value = "";
  });
  const drop = byId("drop");
  for (const name of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", name === "dragover");
      if (name === "drop") take(event.dataTransfer.files);
    });
  }

  // ---- an answer
  function shown(piece, pictures) {
    const box = element("span", "shown"), image = pictures[piece.image - 1], picture = element("img");
    picture.src = image.seen;
    picture.alt = "image " + piece.image + " as the model sees it";
    const last = piece.start + piece.tokens - 1;
    box.append(picture, element("span", "", "image " + piece.image + " · " + image.width + " × " + image.height), element("span", "", piece.tokens + " tokens, " + piece.start + " to " + last));
    if (image.source[0] !== image.width || image.source[1] !== image.height) box.append(element("span", "", "from " + image.source.join(" × ")));
    return box;
  }

  const ENDS = { stop: "ended by itself", length: "cut at the most tokens" };

  function card(reply) {
    const node = element("article", "exchange");
    node.append(element("p", "reply", reply.answer));
    node.append(element("p", "about", reply.num_prompt_tokens + " tokens read, " + reply.tokens.length + " written in " + reply.seconds + " s, " + (ENDS[reply.finish] || reply.finish)));
    for (const [title, pieces, open] of [["what the model read", reply.prompt, true], ["what it wrote, token by token", reply.tokens, false]]) {
      const details = element("details"), tokens = element("div", "tokens");
      details.open = open;
      for (const piece of pieces) tokens.append(typeof piece === "string" ? element("span", "token", piece) : shown(piece, reply.images));
      details.append(element("summary", "", title), tokens);
      node.append(details);
    }
    return node;
  }

  function say(words, isError) {
    const status = byId("status");
    status.textContent = words;
    status.className = isError ? "error" : "";
  }

  async function ask(event) {
    event.preventDefault();
    const user = { role: "user", content: byId("text").value };
    const system = byId("system").value;
    const begun = byId("go-on").checked && past.length ? past : system ? [{ role: "system", content: system }] : [];
    const messages = [...begun, user];
    byId("ask").disabled = true;
    say("The model is answering …", false);
    try {
      const body = JSON.stringify({ messages, images: images.map((image) => image.data), temperature: Number(byId("temperature").value), max_tokens: Number(byId("most").value) });
      const response = await fetch("ask", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      const reply = await response.json();
      if (reply.error) return say(reply.error, true);
      past = [...messages, { role: "assistant", content: reply.answer }];
      byId("answers").prepend(card(reply));
      say("", false);
    } catch (error) {
      say("No answer: " + error.message + ". Is `triptych chat` still running?", true);
    } finally {
      byId("ask").disabled = false;
    }
  }

  byId("question").addEventListener("submit", ask);
})();
