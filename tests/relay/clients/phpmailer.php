<?php
// Messages with everything, by PHPMailer over one connection. Arguments: PHPMailer's autoload.php, and what to do as
// JSON. Prints the conversation.
require $argv[1];

use PHPMailer\PHPMailer\PHPMailer;

$wish = json_decode($argv[2], true);
$mail = new PHPMailer(true);
$mail->isSMTP();
$mail->SMTPDebug = 2; // prints the conversation, without what signs in
$mail->Debugoutput = 'echo';
$mail->Host = '127.0.0.1';
$mail->Port = $wish['port'];
$mail->SMTPKeepAlive = true;
$mail->SMTPAuth = true;
$mail->AuthType = $wish['method'];
$mail->Username = $wish['user'];
$mail->Password = $wish['key'];
$mail->SMTPSecure = PHPMailer::ENCRYPTION_STARTTLS;
$mail->SMTPOptions = ['ssl' => ['cafile' => $wish['ca_file']]];
$mail->CharSet = PHPMailer::CHARSET_UTF8;
$mail->setFrom('shop@elsewhere.example', 'Shop');
$mail->addAddress('lena@shop.example', 'Lena');
$mail->addBCC('quiet@shop.example');
$mail->isHTML(true);
$mail->Body = '<p>Grüße</p>';
$mail->AltBody = "Grüße\n.\nvon uns";
$mail->addStringAttachment(str_repeat("\x07", 3000), 'rechnung.pdf');
foreach ($wish['subjects'] as $subject) {
    $mail->Subject = $subject;
    $mail->send();
}
$mail->smtpClose();
