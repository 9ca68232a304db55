package ghost

// Token lets tests write into a real site.
var Token = token
