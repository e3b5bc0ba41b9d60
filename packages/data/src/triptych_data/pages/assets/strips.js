// A completion of several turns as a strip: what was said, the call, the image that it asked about, and what came back.
const strips = (data, { expectedImages, expectedShapes, imageOf, imageTitle, isRight, linked, rectangle, stretch, zoomable }) => {
  const { drawn, element, known, signed } = page;
  const ENDS = {
    stop: ["", "the end: it called no further tool"],
    done: ["", "ended by its environment: the model did not see what came last"],
    turns: ["bad", "over-turn: this call came after the largest number of turns, and was not done"],
    length: ["bad", "cut here: the largest number of tokens was reached in this message"],
    room: ["bad", "cut here: what the tools returned did not fit, and was left out with its images"],
  };
  const ANSWERED = "answered";
  const kinds = { thought: "thought", answer: "answered", tag: "tag", cut: "cut", text: "" };
  const calls = (completion) => completion.turns.flatMap((turn) => turn.calls);
  const counted = (count, word) => count + " " + word + (count === 1 ? "" : "s");

  function facts(completion) {
    const made = calls(completion), failed = made.filter((call) => call.failed).length;
    const words = [counted(completion.turns.length, "turn"), counted(made.filter((call) => call.done).length, "call"), counted(completion.images.length, "new image")];
    if (failed) words.push(failed + " failed");
    if (completion.finish === "done" && made.some((call) => !call.done)) words.push("a call not done");
    if (completion.finish === "turns") words.push("over-turn");
    if (completion.finish === "length" || completion.finish === "room") words.push("cut");
    return words.join(" · ");
  }

  // What is plain from the record: [turn, sentence, whether it is a repetition alone, which may be harmless]. Whether a
  // picture was misread is for the reader's eyes.
  function troubles(group, completion) {
    const found = [], earlier = new Map();
    const aim = expectedImages(group).length ? expectedImages(group) : group.asked;
    const right = isRight(completion);
    completion.turns.forEach((turn, k) => {
      for (const call of turn.calls) {
        if (!call.tool && call.done) continue; // it could not be read, which is said of the turn
        const on = known(call.image) ? " on " + imageTitle(group, call.image) : "";
        if (call.failed) found.push([k, call.tool + " failed" + on + ": " + failure(call)]);
        if (tooLate(completion, call)) found.push([k, call.tool + " was not done: a call before it had ended the rollout"]);
        const key = repeated(group, completion, call);
        if (call.done && earlier.has(key)) found.push([k, "repeats the call of turn " + (earlier.get(key) + 1) + ", and got the same", true]);
        else earlier.set(key, k);
        if (right !== false || call.failed || !known(call.image) || call.image >= group.images.length) continue;
        const chosen = /"image"\s*:/.test(call.arguments); // others act on the last image, which they did not choose
        if (chosen && aim.length && !aim.includes(call.image)) found.push([k, "asks about " + imageTitle(group, call.image) + ", not about " + aim.map((index) => imageTitle(group, index)).join(" or ")]);
        else if (misses(group, call)) found.push([k, "its box on " + imageTitle(group, call.image) + " does not meet the expected one"]);
      }
      if (turn.unread) found.push([k, "wrote a call that could not be read: " + turn.unread]);
      if (known(turn.reward) && turn.reward < 0) found.push([k, "reward " + signed(turn.reward)]);
    });
    if (ENDS[completion.finish] && ENDS[completion.finish][0]) found.push([completion.turns.length - 1, ENDS[completion.finish][1]]);
    return found;
  }

  // A call after the one with which the environment ended the rollout.
  const tooLate = (completion, call) => !call.done && completion.finish === "done";

  // A call is a repetition only if it also got the same: the same tap on another screen, or a step forward, is none.
  function repeated(group, completion, call) {
    const same = (index) => { const image = imageOf(group, completion, index); return image && typeof image.thumb === "number" ? "thumb " + image.thumb : "image " + index; };
    return JSON.stringify([call.tool, call.arguments, call.returned.map((piece) => (typeof piece === "number" ? same(piece) : piece))]);
  }

  // The completions that were better: the right ones, or, where nothing says what is right, those with the most reward.
  // One that asked for nothing may have guessed: it is compared with only where no other was better.
  function better(group, completion) {
    const told = group.completions.filter((one) => one.turns && one !== completion);
    const most = Math.max(...told.map((one) => (known(one.total) ? one.total : -Infinity)));
    let found = [];
    if (isRight(completion) === false) found = told.filter((one) => isRight(one) === true);
    else if (isRight(completion) === null && completion.total < most) found = told.filter((one) => one.total === most);
    const asked = found.filter((one) => calls(one).length);
    return calls(completion).length && asked.length ? asked : found;
  }

  // Whether the record says that a turn failed; a call that was only repeated may have done no harm.
  const failed = (troubles) => troubles.some(([, , isRepetition]) => !isRepetition);

  /** Where a rollout first does something else than every better one did after the same turns: the turn and a sentence.
   *  @returns {[number, string] | null} */
  function departure(group, completion) {
    let alike = better(group, completion);
    if (!alike.length) return null;
    const asked = (turn) => JSON.stringify((turn ? turn.calls : []).map((call) => [call.tool, call.arguments]));
    const got = (one, k) => JSON.stringify(one.turns[k].calls.map((call) => repeated(group, one, call)));
    const names = (ones) => (ones.length === 1 ? "completion " : "completions ") + ones.map((one) => group.completions.indexOf(one) + 1).join(", ");
    const last = completion.turns.length - 1;
    for (let k = 0; k <= last; k++) {
      const same = alike.filter((one) => one.turns[k] && asked(one.turns[k]) === asked(completion.turns[k]));
      if (!same.length) {
        const ways = [...new Set(alike.map((one) => did(one.turns[k])))];
        if (ways.length === 1 && ways[0] === ANSWERED) return [k, names(alike) + (alike.length === 1 ? " is" : " are") + " right without this call: the call or the last message went wrong; look at " + before(group, completion, k) + (k < last ? " and " + before(group, completion, last) : "")];
        return [k, "from here on it differs from " + names(alike) + ", which " + ways.slice(0, 3).join(", or ") + ": look at " + before(group, completion, k)];
      }
      const shown = same.filter((one) => got(one, k) === got(completion, k));
      if (!shown.length) return [k, "here it asks for the same as " + names(same) + ", and gets something else"];
      alike = shown;
    }
    const like = calls(completion).length ? "every turn asks for the same and gets the same as " + names(alike) : "it asks for nothing, as " + names(alike);
    if (completion.answered === null && alike.every((one) => one.answered !== null)) return [last, like + ", but its last message has no <answer>…</answer>"];
    return [last, like + ", and the answer is another one: look at " + before(group, completion, last)];
  }

  const did = (turn) => (turn && turn.calls.length ? "asked for " + turn.calls.map((call) => (call.tool ? call.tool + " " + inWords(call.arguments) : "a call that could not be read")).join(" and ") : ANSWERED);

  // The images that the model got last before a turn.
  function before(group, completion, k) {
    for (let turn = k - 1; turn >= 0; turn--) {
      const arrived = completion.turns[turn].calls.flatMap((call) => call.returned).filter((piece) => typeof piece === "number");
      if (arrived.length) return arrived.map((index) => "image " + (index + 1)).join(" and ");
    }
    return group.images.length === 1 ? imageTitle(group, 0) : "what the prompt shows";
  }

  // The place of a call on its image: a box, or a point, which is drawn as a disc.
  function place(call, image, k) {
    const [left, top, right, bottom] = call.box;
    if (left !== right || top !== bottom) return rectangle({ corners: call.box }, "box call k" + (k % 8));
    return drawn("circle", { class: "box call point k" + (k % 8), cx: left, cy: top, r: Math.max(...image.size) / 28 });
  }

  function misses(group, call) {
    const expected = group.answerBoxes.filter((box) => box.image === call.image);
    if (!call.box || !expected.length) return false;
    const [left, top, right, bottom] = call.box;
    return expected.every(({ corners: [a, b, c, d] }) => Math.max(left, a) > Math.min(right, c) || Math.max(top, b) > Math.min(bottom, d));
  }

  const failure = (call) => {
    const text = call.returned.filter((piece) => typeof piece === "string").join(" ");
    const inner = /^\{'error': (['"])([^]*)\1\}$/.exec(text);
    return inner ? inner[2] : text;
  };

  function strip(group, completion, k) {
    const list = element("ol", "strip");
    list.tabIndex = 0; // it scrolls sideways
    list.setAttribute("aria-label", "Turns of completion " + (k + 1));
    const found = troubles(group, completion), departs = failed(found) ? null : departure(group, completion);
    completion.turns.forEach((turn, number) => {
      const item = cell(group, completion, k, number, found.filter(([at]) => at === number));
      if (departs && departs[0] === number) {
        item.classList.add("departs");
        const hint = element("p", "hint");
        hint.append(...linked(departs[1]));
        item.querySelector(".cell-head").after(hint);
      }
      list.append(item);
    });
    if (!completion.turns.length) list.append(element("li", "cell empty", "nothing was said"));
    return list;
  }

  function cell(group, completion, k, number, found) {
    const turn = completion.turns[number];
    const item = element("li", "cell" + (found.length ? " troubled" : ""));
    const head = element("div", "cell-head");
    head.append(element("b", "", "turn " + (number + 1)), element("span", "", turn.tokens + " tokens"));
    if (known(turn.reward)) head.append(element("span", "turn-reward " + (turn.reward > 0 ? "up" : turn.reward < 0 ? "down" : ""), "reward " + signed(turn.reward)));
    item.append(head);
    for (const [, text] of found) {
      const line = element("p", "trouble");
      line.append(...linked(text));
      item.append(line);
    }
    const said = element("div", "spoken");
    for (const [kind, part, images] of turn.parts) said.append(stretch(kinds[kind], part, images));
    if (!turn.parts.length) said.append(element("span", "empty", turn.calls.length ? "only the call" : "nothing"));
    item.append(labelled("said", said));
    for (const call of turn.calls) item.append(...oneCall(group, completion, k, call));
    if (number === completion.turns.length - 1) item.append(ending(completion, found));
    return item;
  }

  function oneCall(group, completion, k, call) {
    const asked = element("div", "call");
    if (call.tool) asked.append(element("b", "", call.tool), " " + inWords(call.arguments));
    else asked.append(element("span", "empty", "a call that could not be read"));
    const image = known(call.image) ? imageOf(group, completion, call.image) : null;
    if (image && call.box) {
      const shape = place(call, image, k);
      const figure = element("figure", "asked-of");
      figure.append(zoomable(image, imageTitle(group, call.image) + " with what was asked of it", [...expectedShapes(group, call.image), shape]));
      figure.append(element("figcaption", "", "asked of " + imageTitle(group, call.image)));
      asked.append(figure);
    } else {
      if (image) asked.append(element("div", "of", "of " + imageTitle(group, call.image)));
      if (/"box"\s*:\s*\[(\s*-?[\d.]+\s*,){3}\s*-?[\d.]+\s*\]|"x"\s*:\s*-?[\d.]+/.test(call.arguments)) {
        const named = known(call.image) ? null : /"image"\s*:\s*("[^"]*"|-?[\d.]+)/.exec(call.arguments);
        asked.append(element("div", "of", "not drawn: " + (named ? "there was no image " + named[1] : call.tool + " does not say its box_frame")));
      }
    }
    if (!call.done) return [labelled("asked", asked), labelled("got", element("span", "empty", "nothing: this call was not done"))];
    const got = element("div", call.failed ? "got bad" : "got");
    if (call.failed) got.append("failed: " + failure(call));
    else for (const piece of call.returned) got.append(typeof piece === "number" ? arrived(group, completion, piece) : element("span", "", piece));
    if (!call.returned.length) got.append(element("span", "empty", "nothing that the model saw"));
    return [labelled("asked", asked), labelled("got", got)];
  }

  function arrived(group, completion, index) {
    const image = imageOf(group, completion, index);
    const figure = element("figure", "marker arrived");
    figure.dataset.image = index;
    if (!image) {
      figure.append(element("div", "gone", "image " + (index + 1) + " is not in the record"));
      return figure;
    }
    const boxes = completion.boxes.filter((box) => box.image === index);
    figure.append(zoomable(image, "image " + (index + 1), boxes.map((box) => rectangle(box, "box strong k0"))));
    const caption = element("figcaption");
    caption.append(element("b", "", "image " + (index + 1)), " · " + image.size[0] + " × " + image.size[1] + " px");
    figure.append(caption);
    return figure;
  }

  function ending(completion, found) {
    const [kind, words] = ENDS[completion.finish] || ["", completion.finish];
    if (found.some(([, text]) => text === words)) return element("div", "end " + kind, kind ? "✂ the rollout ends here" : words);
    return element("div", "end " + kind, words);
  }

  function labelled(word, content) {
    const row = element("div", "labelled");
    row.append(element("span", "label", word), content);
    return row;
  }

  // {"image": 1, "box": [1, 2, 3, 4]} as "image 1, box 1 2 3 4".
  function inWords(text) {
    let values = null;
    try {
      values = JSON.parse(text);
    } catch (error) {
      return text; // longer than the page shows
    }
    if (values === null || typeof values !== "object" || Array.isArray(values)) return text;
    const words = (value) => (typeof value === "string" ? "“" + value + "”" : Array.isArray(value) ? value.map((one) => (typeof one === "object" ? JSON.stringify(one) : one)).join(" ") : JSON.stringify(value));
    return Object.entries(values).map(([name, value]) => name + " " + words(value)).join(", ");
  }

  return { calls, departure, facts, failed, strip, tooLate, troubles };
};
