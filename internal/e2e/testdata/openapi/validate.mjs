// Says whether the OpenAPI documents that are named are valid.
import { readFile } from "node:fs/promises";
import { Validator } from "@seriousme/openapi-schema-validator";

for (const name of process.argv.slice(2)) {
  const validator = new Validator();
  const result = await validator.validate(JSON.parse(await readFile(name, "utf8")));
  if (!result.valid) {
    console.error(name, JSON.stringify(result.errors, null, 2));
    process.exitCode = 1;
  } else {
    console.log(name, "is valid OpenAPI", validator.version);
  }
}
