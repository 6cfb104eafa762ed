// From the JSON schema of a tool to a form, and from what stands in it to the text of its arguments. Numbers go as they were
// typed: none passes through a float.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

// What a field is for, as far as one type says it; anything else is written as JSON.
function kindOf(schema) {
  if (!schema || typeof schema !== "object") return "json";
  if (Array.isArray(schema.enum)) return "enum";
  const types = [schema.type].flat().filter((type) => type !== "null");
  const plain = ["string", "number", "integer", "boolean"];
  if (types.length === 1 && plain.includes(types[0])) return types[0];
  return types.length === 1 ? types[0] ?? "json" : "json";
}

function choices(values, required, fallback) {
  const select = element("select");
  if (!required || fallback === undefined) select.append(element("option", { value: "" }, required ? "choose" : "not given"));
  for (const value of values) {
    const text = JSON.stringify(value);
    const option = element("option", { value: text }, typeof value === "string" ? value : text);
    option.selected = fallback !== undefined && text === JSON.stringify(fallback);
    select.append(option);
  }
  return select;
}

function control(kind, schema, required) {
  const fallback = schema?.default;
  if (kind === "enum") return choices(schema.enum, required, fallback);
  if (kind === "boolean") return choices([true, false], required, fallback);
  const given = fallback === undefined ? "" : kind === "string" ? String(fallback) : JSON.stringify(fallback);
  if (kind === "number" || kind === "integer") {
    const made = element("input", { type: "text", inputmode: kind === "integer" ? "numeric" : "decimal", autocomplete: "off" });
    made.value = given;
    return made;
  }
  const made = element("textarea", { rows: kind === "string" ? "1" : "3", spellcheck: kind === "string" ? undefined : "false" });
  made.value = given;
  return made;
}

function read(kind, text) {
  if (kind === "string") return JSON.stringify(text);
  if (kind === "integer" && !/^-?(0|[1-9]\d*)$/.test(text.trim())) throw new Error("a whole number is needed");
  if (kind === "number" && !/^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$/.test(text.trim())) throw new Error("a number is needed");
  try {
    JSON.parse(text);
  } catch (error) {
    throw new Error(`this is not JSON: ${error.message}`);
  }
  return text.trim();
}

// Fills `place` with the fields of `schema`. `read()` gives the text of the arguments, or null where something is wrong, which
// it says, unless `quiet`.
export function form(place, schema) {
  place.replaceChildren();
  const properties = schema && typeof schema.properties === "object" ? Object.entries(schema.properties) : [];
  if (properties.length === 0) {
    const none = schema && schema.additionalProperties === false;
    if (none || (schema && schema.type === "object" && !schema.$ref && !schema.anyOf && !schema.oneOf && !schema.allOf)) {
      place.append(element("p", { class: "note" }, "It takes no arguments."));
      return { read: () => "{}" };
    }
    return whole(place);
  }
  const required = ([name]) => (schema.required ?? []).includes(name);
  // What has to be said comes first.
  properties.sort((one, other) => required(other) - required(one));
  const fields = properties.map((property, number) => field(place, ...property, required(property), `field-${number}`));
  return {
    read(quiet = false) {
      const parts = fields.map((each) => each.read(quiet));
      const first = parts.findIndex((part) => part === null);
      if (first >= 0 && !quiet) fields[first].focus();
      return first >= 0 ? null : `{${parts.filter((part) => part !== "").join(",")}}`;
    },
  };
}

// A tool whose arguments are of a shape that has no fields.
function whole(place) {
  const only = field(place, "arguments", { type: "object", default: {} }, true, "field-all");
  return { read: (quiet) => only.read(quiet)?.replace(/^"arguments":/, "") ?? null };
}

function field(place, name, schema, required, id) {
  const kind = kindOf(schema);
  const made = control(kind, schema, required);
  made.id = id;
  made.setAttribute("aria-required", String(required));
  const label = element("label", { for: id }, name, " ", element("span", { class: "kind" }, kind === "enum" ? "choice" : kind));
  if (required) label.append(" ", element("span", { class: "must" }, "required"));
  const wrong = element("p", { class: "wrong", id: `${id}-wrong`, hidden: true });
  const described = [`${id}-wrong`];
  const box = element("div", { class: "field" }, label, made);
  if (schema?.description) {
    described.unshift(`${id}-note`);
    box.append(element("p", { class: "note", id: `${id}-note` }, schema.description));
  }
  made.setAttribute("aria-describedby", described.join(" "));
  box.append(wrong);
  place.append(box);
  const say = (what) => {
    wrong.textContent = what;
    wrong.hidden = !what;
    made.setAttribute("aria-invalid", String(Boolean(what)));
  };
  return {
    focus: () => made.focus(),
    read(quiet) {
      const complain = quiet ? () => {} : say;
      complain("");
      // An empty text that is required is a text; one that is not was not given.
      if (made.value === "" && !(required && kind === "string")) {
        if (!required) return "";
        complain("this is required");
        return null;
      }
      try {
        const value = kind === "enum" || kind === "boolean" ? made.value : read(kind, made.value);
        return `${JSON.stringify(name)}:${value}`;
      } catch (error) {
        complain(error.message);
        return null;
      }
    },
  };
}
