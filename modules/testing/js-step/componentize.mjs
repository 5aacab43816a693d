// node componentize.mjs WIT-DIRECTORY SOURCE OUTPUT: makes a component of the step world from JavaScript.

import { readFile, writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { componentize } from "@bytecodealliance/componentize-js";

const [wit, source, output] = process.argv.slice(2);
const { component } = await componentize(await readFile(source, "utf8"), { witPath: resolve(wit), worldName: "step" });
await writeFile(output, component);
