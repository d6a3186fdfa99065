// One message with everything, by Nodemailer. Argument: what to do, as JSON. Prints the server's answer.
const nodemailer = require("nodemailer");
const { readFileSync } = require("node:fs");

const wish = JSON.parse(process.argv[2]);
const transport = nodemailer.createTransport({
  pool: true,
  host: "127.0.0.1",
  port: wish.port,
  requireTLS: true,
  tls: { ca: readFileSync(wish.ca_file) },
  auth: { user: wish.user, pass: wish.key, method: wish.method },
});

Promise.all(
  wish.subjects.map((subject) =>
    transport.sendMail({
      from: '"Shop" <shop@elsewhere.example>',
      to: "Lena <lena@shop.example>",
      bcc: "quiet@shop.example",
      subject,
      text: "Grüße\n.\nvon uns",
      html: "<p>Grüße</p>",
      attachments: [{ filename: "rechnung.pdf", content: Buffer.alloc(3000, 7) }],
    }),
  ),
).then(
  (sent) => {
    sent.forEach((one) => console.log(one.response));
    transport.close();
  },
  (error) => {
    console.error(String(error));
    process.exit(1);
  },
);
