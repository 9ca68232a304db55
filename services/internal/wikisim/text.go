package wikisim

import "strings"

// Known are pages that a company has, so that questions have answers.
var Known = []struct{ Title, Body string }{
	{"Travel and expenses", "# Reimbursement\n\nKeep your receipts. Upload them within thirty days and the money is paid back with the next salary.\n\n# Hotels\n\nUp to 150 euros a night are covered; more needs the approval of your manager."},
	{"Remote access", "# VPN\n\nInstall the client from the software centre and sign in with your company account. Error E4711 means that the certificate has expired: enrol again.\n\n# Two factors\n\nA hardware key or the authenticator app is required."},
	{"Incident runbook", "# When something is down\n\nDeclare an incident in the chat, name an incident commander, and write down what you do. Customers are told within thirty minutes.\n\n# Rolling back\n\nRedeploy the previous image and watch the error rate for ten minutes."},
	{"On-call rota", "# Who is paged\n\nThe primary engineer is woken first; after fifteen minutes without an answer the secondary follows.\n\n# Swapping shifts\n\nAgree with a colleague and change the calendar two days ahead."},
	{"Vacation policy", "# Days off\n\nEverybody has thirty days of paid leave a year. Five of them can be carried over until the end of March.\n\n# Sick leave\n\nTell your team in the morning; a doctor's note is needed from the third day on."},
	{"Deploying services", "# Pipeline\n\nMerge to main, wait for the canary to be green for half an hour, then promote to production.\n\n# Freeze\n\nNothing is released on Fridays after noon."},
}

var (
	subjects = strings.Fields("gateway broker invoice customer database dashboard contract laptop office printer budget roadmap backup certificate server warehouse interview newsletter payroll survey")
	verbs    = strings.Fields("checks updates archives renews explains replaces schedules approves measures restores migrates documents reviews closes")
	places   = strings.Fields("weekly nightly centrally manually remotely together automatically twice carefully quarterly")
)

func (w *Wiki) pick(words []string) string { return words[w.rng.IntN(len(words))] }

func (w *Wiki) title() string {
	s := w.pick(subjects)
	return strings.ToUpper(s[:1]) + s[1:] + " " + w.pick(subjects) + " " + w.pick([]string{"guide", "policy", "checklist", "notes"})
}

func (w *Wiki) paragraph() string {
	var b strings.Builder
	for range 3 + w.rng.IntN(5) {
		b.WriteString("The " + w.pick(subjects) + " team " + w.pick(verbs) + " the " + w.pick(subjects) + " " + w.pick(places) + ". ")
	}
	return strings.TrimSpace(b.String())
}

func (w *Wiki) page() (title, body string) {
	parts := []string{w.paragraph()}
	for range 1 + w.rng.IntN(4) {
		parts = append(parts, "## "+w.title(), w.paragraph())
	}
	return w.title(), strings.Join(parts, "\n\n")
}
