// Says whether Slack's own library takes a delivery. It reads {secret, headers, body} from standard input.
import bolt from "@slack/bolt";
import { readFileSync } from "node:fs";

const { secret, headers, body } = JSON.parse(readFileSync(0, "utf8"));
console.log(bolt.isValidSlackRequest({ signingSecret: secret, headers: { "x-slack-signature": headers["X-Slack-Signature"], "x-slack-request-timestamp": Number(headers["X-Slack-Request-Timestamp"]) }, body }));
